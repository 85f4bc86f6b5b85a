"""An addition to an output that kills itself as it is about to change the file system for the n-th time."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pynwb.ophys  # noqa: F401 -- loaded once, for all processes
from hdmf_zarr import NWBZarrIO  # noqa: F401
from roiextractors.testing import generate_dummy_segmentation_extractor

import airflow_provider_ophys.writing.zarr_sink  # noqa: F401
from airflow_provider_ophys.nwb import write_segmentation_to_nwbfile

CHANGES = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def append(path: str, changes: int) -> int:
    """
    Add some cells.

    :param changes: After how many changes to kill this process; -1 for never.
    """
    left = changes

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and arguments[2] and arguments[2] & WRITING):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(watch)
    cells = generate_dummy_segmentation_extractor(num_rois=2, num_rows=3, num_columns=4)
    write_segmentation_to_nwbfile(cells, path, append_on_disk_nwbfile=True)
    return 0
