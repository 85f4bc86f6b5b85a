"""An object in a bucket reads as the file that it was."""

from __future__ import annotations

import io

import numpy as np

from airflow_provider_ophys.staging.files import MIB
from airflow_provider_ophys.staging.reading import RemoteFile
from airflow_provider_ophys.staging.store import Document

CONTENT = np.random.default_rng(0).integers(0, 256, 5 * MIB + 123, dtype="uint8").tobytes()


class Store:
    """Answers range requests of one object, and counts them."""

    def __init__(self):
        self.requests = 0

    def get(self, _key, *, part, etag):
        self.requests += 1
        return Document(CONTENT[part], etag)


def test_it_reads_as_a_file_at_any_place_and_of_any_length():
    remote, local = RemoteFile(Store(), "k", len(CONTENT), "e"), io.BytesIO(CONTENT)
    choose = np.random.default_rng(0)
    for _ in range(200):
        place = int(choose.integers(len(CONTENT) + 10))
        length = int(choose.choice([1, 100, MIB - 1, MIB, MIB + 1, 3 * MIB]))
        assert remote.seek(place) == local.seek(place)
        assert remote.read(length) == local.read(length)
        assert remote.tell() == local.tell()
    assert remote.seek(-5, io.SEEK_END) == local.seek(-5, io.SEEK_END)
    assert remote.read() == local.read()


def test_small_reads_near_each_other_are_one_request():
    store = Store()
    remote = RemoteFile(store, "k", len(CONTENT), "e")
    for place in range(0, 10_000, 100):
        remote.seek(place)
        assert remote.read(50) == CONTENT[place : place + 50]
    assert store.requests == 1
