"""Threads that share the work on many files."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from s3_trees import make_tree

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging import Destination, plan_staging
from airflow_provider_ophys.staging.files import MIB, PART_SIZE, SourceFile
from airflow_provider_ophys.staging.transfer_threads import TransferThreads


@pytest.fixture
def files(tmp_path: Path) -> tuple[SourceFile, ...]:
    """Some hundred small files, and a large one among them."""
    tree = make_tree(tmp_path / "a.nwb.zarr", chunks=300)
    with (tree / "acquisition" / "data" / "c" / "150").open("wb") as file:
        file.truncate(PART_SIZE + 1)
    return plan_staging(tree, Destination("archive", "")).files


@pytest.mark.parametrize("threads", [1, 2, 16, 1000])
def test_results_come_in_the_order_of_the_files(files: tuple[SourceFile, ...], threads: int) -> None:
    workers = TransferThreads(threads, threading.Event(), 256 * MIB)
    assert workers.each_file(lambda file: file.key, files) == [file.key for file in files]
    assert workers.each_file(lambda file: file.key, []) == []


def test_nothing_is_begun_after_the_first_error(files: tuple[SourceFile, ...]) -> None:
    begun: list[SourceFile] = []

    def fail_at_the_tenth(file: SourceFile) -> None:
        begun.append(file)
        if len(begun) == 10:
            raise ValueError(file.key)
        time.sleep(0.01)

    with pytest.raises(ValueError, match="a.nwb.zarr"):
        TransferThreads(4, threading.Event(), 256 * MIB).each_file(fail_at_the_tenth, files)
    assert len(begun) < 30


def test_nothing_is_begun_after_a_stop(files: tuple[SourceFile, ...]) -> None:
    stopped = threading.Event()
    begun: list[SourceFile] = []

    def stop_at_the_tenth(file: SourceFile) -> None:
        begun.append(file)
        if len(begun) == 10:
            stopped.set()
        time.sleep(0.01)

    with pytest.raises(StagingError, match="stopped"):
        TransferThreads(4, stopped, 256 * MIB).each_file(stop_at_the_tenth, files)
    assert len(begun) < 30
