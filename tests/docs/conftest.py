"""What the blocks of the pages run on: simulated recordings, and an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from example_data import make_example_data
from page_blocks import blocks_in

from demo.s3_server import S3Server

TWO_CHANNELS = "# metadata.yaml of two channels"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3"), bucket="our-archive") as running:
        yield running


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stands for ``/data``."""
    root = tmp_path_factory.mktemp("example") / "data"
    (metadata,) = [block.text for block in blocks_in("yaml") if block.text.startswith(TWO_CHANNELS)]
    make_example_data(root, metadata)
    return root
