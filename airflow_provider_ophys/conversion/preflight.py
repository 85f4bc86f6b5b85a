"""What can be known to be wrong before the first pixel is read, gathered so that all of it is told at once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_ophys.conversion.datasets import BulkDataset
from airflow_provider_ophys.conversion.storages import Storage
from airflow_provider_ophys.exceptions import DiskSpaceError
from airflow_provider_ophys.writing.copying import bytes_to_copy
from airflow_provider_ophys.writing.mask_iterators import ImageMaskDataChunkIterator
from airflow_provider_ophys.writing.sharing import Resources

log = logging.getLogger(__name__)

# The least that compression usually leaves: of a movie 0.4 to 0.5, of a mask less than 0.01. An estimate that is
# too high would refuse what fits; one that is too low lets the disk become full, which harms nothing.
LEAST_KEPT, LEAST_KEPT_OF_MASKS = 0.3, 0.005


def check_memory(storage: Storage, datasets: Sequence[BulkDataset], resources: Resources) -> None:
    """
    Check that each dataset can be filled within the memory budget.

    :raises MemoryBudgetError: If not; says how much is needed.
    """
    for dataset in datasets:
        storage.plan(dataset, resources)


def check_disk(path: Path, storage: Storage, datasets: Sequence[BulkDataset], *, append: bool) -> None:
    """
    Check that the output fits on its disk, beside the old one, which stays until the new one is whole.

    :param path: The output.
    :param append: Whether the output is added to: a copy of it, of which only what changes takes space where the
        file system can do that.
    :raises DiskSpaceError: If it certainly does not fit. If it may not, that is only logged.
    """
    if not path.parent.is_dir():
        return
    copied = bytes_to_copy(path) if append else 0
    least = copied + sum(int(dataset.num_bytes * _least_kept(storage, dataset)) for dataset in datasets)
    most = copied + sum(dataset.num_bytes for dataset in datasets)
    free = shutil.disk_usage(path.parent).free
    if free < least:
        raise DiskSpaceError(
            f"The disk of {path.parent} has {free / 1e6:,.1f} MB left, but the output will need at least "
            f"{least / 1e6:,.1f} MB ({most / 1e6:,.1f} MB before compression; what is at the path stays until the "
            "new one is complete). Free some space, or write elsewhere."
        )
    if free < most:
        log.warning(
            "%s has %.1f MB left; the output is %.1f MB before compression, so it may not fit.",
            path.parent,
            free / 1e6,
            most / 1e6,
        )


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _least_kept(storage: Storage, dataset: BulkDataset) -> float:
    if not storage.compresses(dataset):
        return 1.0
    return LEAST_KEPT_OF_MASKS if isinstance(dataset.source, ImageMaskDataChunkIterator) else LEAST_KEPT
