"""
Allocate, fill, publish: how every NWB file of this package is written.

pynwb writes everything but the big arrays, which it only declares; the pipeline fills them in parallel under a
memory budget; the result is checked and only then appears at its path.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pynwb import NWBFile

from airflow_provider_ophys.conversion.additions import Addition, facts_of, location_of_record
from airflow_provider_ophys.conversion.checks import check_schema, compare_samples
from airflow_provider_ophys.conversion.configuration import check_configuration
from airflow_provider_ophys.conversion.dandi_rules import check_for_archive
from airflow_provider_ophys.conversion.datasets import BulkDataset, written_datasets
from airflow_provider_ophys.conversion.inspection import Inspect, inspect_file
from airflow_provider_ophys.conversion.movie_statistics import keep_statistics, statistics_of, watch
from airflow_provider_ophys.conversion.preflight import check_disk, check_memory
from airflow_provider_ophys.conversion.provenance import record_conversion
from airflow_provider_ophys.conversion.publishing import (
    ANYTHING,
    check_output_folder,
    naming_write_errors,
    publishing,
)
from airflow_provider_ophys.conversion.replacing import Kept, check_replaceable
from airflow_provider_ophys.conversion.storages import Storage, storage_for
from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    OutputExistsError,
)
from airflow_provider_ophys.models.backend import (
    Backend,
    BackendConfiguration,
    Compression,
    stated_backend,
)
from airflow_provider_ophys.models.metadata import require_session_start_time
from airflow_provider_ophys.models.metadata_sections import Metadata
from airflow_provider_ophys.models.output_path import choose_backend
from airflow_provider_ophys.models.problems import Problems
from airflow_provider_ophys.models.result import Finding
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.nwb.nwbfile import make_nwbfile
from airflow_provider_ophys.recordings.state import SourceState
from airflow_provider_ophys.writing.copying import copy_output
from airflow_provider_ophys.writing.replacement import state_of
from airflow_provider_ophys.writing.sharing import Wish, check_not_stopped, sharing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WriteOptions:
    """
    How a file is written, whatever is in it.

    :param backend: ``"hdf5"`` or ``"zarr"``; ``None`` is HDF5 for a new file, and that of the file for appending.
    :param backend_configuration: Storage per dataset.
    :param compression: For datasets that do not say otherwise.
    :param wish: Memory and threads that the writing would use if it were alone on this machine.
    :param validate: Check the file against the NWB schema before it is published.
    :param inspect: Have nwbinspector look at it: ``"report"``, ``"fail"`` or ``"dandi"``, see
        :mod:`airflow_provider_ophys.conversion.inspection`.
    :param stop: Set it, from anywhere, to end the writing.
    :param lock: Whether to keep other writers away by a lock; see :func:`output_lock`.
    :param watch: Take statistics of the frames of movies while they are written, and keep them beside the file.
    """

    backend: Backend | None = None
    backend_configuration: Mapping[str, Any] | BackendConfiguration | None = None
    compression: Compression = "fast"
    wish: Wish = field(default_factory=Wish)
    validate: bool = True
    inspect: Inspect | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    lock: bool = True
    watch: bool = False


class Durations:
    """How long each phase takes, from the end of the one before it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def end(self, phase: str) -> None:
        """Note that a phase has ended, now."""
        now = time.monotonic()
        self.seconds[phase] = round(now - self._last, 3)
        self._last = now


@dataclass(frozen=True)
class WrittenFile:
    """
    What was written.

    :param nwbfile: The NWBFile in memory; ``None`` after appending, when it belonged to a file now closed.
    :param bulk_bytes: Uncompressed bytes of the arrays that were filled.
    :param inspection: What nwbinspector found, if it was asked.
    :param durations: Seconds of each phase: ``allocate``, ``fill``, ``check`` and ``publish``.
    """

    nwbfile: NWBFile | None
    bulk_bytes: int
    inspection: list[Finding] | None
    durations: dict[str, float]


@dataclass(frozen=True)
class Output:
    """
    An output to be written, checked as far as it can be before any work: see :func:`prepare_output`.

    :param path: Of the file (HDF5) or folder (Zarr).
    :param storage: How its datasets are declared and filled.
    :param metadata: Describes a new file.
    :param append: Whether to add to what is at ``path``.
    :param replace: Whether what is at ``path`` may be replaced.
    :param nwbfile: A file in memory to be written, instead of a new one. From :func:`rehearse` on it has what is
        to be written; ``None`` where that is added to the file on disk.
    :param additions: What is added to it.
    :param facts: What :func:`rehearse` found out of the additions, for the result.
    :param kept: What must not be replaced, whatever is at ``path``.
    :param found: State of what was at ``path`` when all of this was decided, see :func:`check_still`.
    """

    path: Path
    storage: Storage
    metadata: Metadata
    append: bool
    replace: bool
    nwbfile: NWBFile | None
    additions: Sequence[Addition]
    kept: Kept = field(default_factory=Kept)
    found: str | None = ANYTHING
    facts: dict[str, Any] = field(default_factory=dict)


def write_nwbfile(output: Output, options: WriteOptions, source: SourceState | None = None) -> WrittenFile:
    """
    Write what was prepared; afterwards its path has all of it or, after an error, what was there before.

    :param output: From :func:`prepare_output`.
    :param options: As there.
    :param source: As for :func:`write_output`.
    :raises OphysError: See :func:`rehearse` and :func:`write_output`.
    """
    problems = Problems()
    output = rehearse(output, options, problems)
    problems.raise_found()
    return write_output(output, options, source=source)


def rehearse(output: Output, options: WriteOptions, problems: Problems) -> Output:
    """
    Find out whether an output can be written, without reading a pixel or writing a byte.

    :param output: From :func:`prepare_output`.
    :param options: As there.
    :param problems: Takes every reason why it cannot be: what an addition refuses, a configuration that does not
        fit, too little memory, too small a disk.
    :returns: The output; a new file is in memory then, with the additions.
    """
    nwbfile = output.nwbfile if output.nwbfile is not None or output.append else make_nwbfile(output.metadata)
    facts: dict[str, Any] = {}
    with problems.gather(), _in_memory(output, nwbfile) as target:
        added = [each for addition in output.additions for each in addition.add_to(target)]
        facts |= facts_of(target, added)
        written = written_datasets(target)
        check_configuration(target, written, output.storage.configuration)
        if options.inspect == "dandi":
            with problems.gather():
                check_for_archive(target, output.storage)
        datasets = [dataset for dataset in written if isinstance(dataset, BulkDataset)]
        with problems.gather(), sharing(options.wish, options.stop) as resources:
            check_memory(output.storage, datasets, resources)
        with problems.gather(), naming_write_errors(output.path):
            check_disk(output.path, output.storage, datasets, append=output.append)
    return replace(output, nwbfile=nwbfile, facts=facts)


@contextmanager
def _in_memory(output: Output, nwbfile: NWBFile | None) -> Iterator[NWBFile]:
    """Open the file that is added to, only to see whether all fits; a new one is in memory anyway."""
    if nwbfile is not None:
        yield nwbfile
        return
    with output.storage.io(output.path, "r") as io:
        yield io.read()


def write_output(
    output: Output,
    options: WriteOptions,
    *,
    record: Mapping[str, Any] | None = None,
    source: SourceState | None = None,
) -> WrittenFile:
    """
    Write what was prepared, check it and publish it.

    :param output: From :func:`rehearse`.
    :param options: As for :func:`prepare_output`.
    :param record: As for :func:`allocate`.
    :param source: What the recordings were when the conversion began: nothing is published if they have changed.
    :raises SourceChangedError: If they have.
    :raises OutputExistsError: If something appeared at the path meanwhile.
    :raises OutputBusyError: If another task is writing it, or has done so since it was prepared.
    :raises OutputWriteError: If the output's disk is full or fails.
    :raises InvalidOutputError: If the check found something; nothing was published.
    """
    durations = Durations()
    with (
        naming_write_errors(output.path),
        publishing(
            output.path, replace=output.replace, found=output.found, kept=output.kept, lock=options.lock
        ) as part,
    ):
        copy_to_add(output, part, options.stop)
        written, datasets = allocate(output, part, record)
        durations.end("allocate")
        with sharing(options.wish, options.stop) as resources:
            if options.watch:
                watch(datasets, resources)
            output.storage.fill(part, datasets, resources)
        durations.end("fill")
        before = output.path if output.append else None
        paths = [dataset.path for dataset in datasets]
        check_written(output.storage, part, paths, validate=options.validate, before=before)
        if options.validate:
            compare_samples(output.storage, part, datasets)
        findings = None if options.inspect is None else inspect_file(output.storage, part, options.inspect)
        if source is not None:
            source.check_unchanged()
        durations.end("check")
    if options.watch:
        keep_statistics(output.path, statistics_of(datasets), more=output.append)
    durations.end("publish")
    bulk_bytes = sum(dataset.num_bytes for dataset in datasets)
    return WrittenFile(None if output.append else written, bulk_bytes, findings, durations.seconds)


def prepare_output(
    path: Path,
    additions: Sequence[Addition],
    *,
    metadata: Metadata,
    nwbfile: NWBFile | None = None,
    overwrite: bool = False,
    append: bool = False,
    options: WriteOptions,
    kept: Kept | None = None,
    problems: Problems | None = None,
) -> Output:
    """
    Check all that can be known of an output without knowing what is written.

    :param path: Of the file (HDF5) or folder (Zarr).
    :param additions: What is written.
    :param metadata: Describes a new file.
    :param nwbfile: A file in memory to be written, instead of a new one.
    :param overwrite: Replace what is at ``path``.
    :param append: Add to a copy of what is at ``path``, so that a failure cannot harm it.
    :param options: How.
    :param kept: What must not be replaced: what is read.
    :param problems: Takes what is wrong but lets more be found out; ``None`` to have that raised too.
    :raises OutputFolderError: If the output's folder is missing or not writable.
    :raises OutputExistsError: If ``path`` exists and may be neither replaced nor appended to.
    :raises SourceNotFoundError: If there is nothing to append to.
    :raises MetadataError: If a new file would have no session start time.
    :raises ConfigurationError: If options contradict each other or the file.
    """
    found = Problems() if problems is None else problems
    kept = kept or Kept()
    with found.gather(), naming_write_errors(path):
        check_output_folder(path)
    with naming_write_errors(path):
        state, exists = state_of(path), path.exists()
    with found.gather(), naming_write_errors(path):
        if exists:
            check_replaceable(path, kept)
            if not append and not overwrite:
                raise OutputExistsError(
                    f"{path} exists already. Replace it with overwrite=True, add to it with "
                    "append_on_disk_nwbfile=True, or write elsewhere."
                )
    if problems is None:
        found.raise_found()
    backend = _resolve_backend(path, options, nwbfile, append=append)
    if not append and nwbfile is None:
        require_session_start_time(metadata)
    storage = storage_for(backend, options.backend_configuration, options.compression)
    return Output(path, storage, metadata, append, overwrite or append, nwbfile, additions, kept, state)


def copy_to_add(output: Output, part: Path, stop: threading.Event) -> None:
    """
    Copy what is added to, if the output is, to where it is allocated.

    :param part: There is nothing yet.
    :param stop: Ends the copying when it is set.
    """
    if output.append:
        copied = copy_output(output.path, part, partial(check_not_stopped, stop))
        log.info("%s is added to; %.1f MB of it were copied.", output.path, copied / 1e6)


def allocate(
    output: Output, part: Path, record: Mapping[str, Any] | None = None
) -> tuple[NWBFile, list[BulkDataset]]:
    """
    Write all of an output but the content of its big datasets, which are only declared.

    :param output: From :func:`rehearse`.
    :param part: Where; there is nothing yet, or a copy of what is added to.
    :param record: Of the conversion, kept beside what it added; see
        :mod:`airflow_provider_ophys.conversion.provenance`.
    :returns: The file in memory, and the datasets that are to be filled.
    """
    nwbfile = output.nwbfile
    storage = output.storage
    with storage.structure(part) as place:
        with storage.io(place, "w" if nwbfile is not None else "r+") as io:
            if nwbfile is None:
                nwbfile = io.read()
                for addition in output.additions:
                    addition.add_to(nwbfile)
            location = location_of_record(nwbfile) if record is not None else ""
            datasets = written_datasets(nwbfile)
            check_configuration(nwbfile, datasets, storage.configuration)
            try:
                for dataset in datasets:
                    storage.declare(dataset)
                storage.write(io, nwbfile)
            finally:
                for dataset in datasets:
                    dataset.unwrap()
        bulk = [dataset for dataset in datasets if isinstance(dataset, BulkDataset)]
        growing = [dataset for dataset in bulk if dataset.is_shown_as_one_row]
        if record is not None or growing:
            with storage.open_groups(place, "r+") as root:
                for dataset in growing:
                    root[dataset.path].resize(dataset.shape)
                if record is not None:
                    record_conversion(root, location, record)
    return nwbfile, bulk


def check_written(
    storage: Storage, part: Path, dataset_paths: Sequence[str], *, validate: bool, before: Path | None = None
) -> None:
    """
    Check a part that is to be published.

    :param dataset_paths: Of the datasets that were filled: all of their chunks must be there.
    :param validate: Check the file against the NWB schema, too.
    :param before: As for :func:`airflow_provider_ophys.conversion.checks.check_schema`.
    :raises InvalidOutputError: If something is missing or does not fit.
    """
    storage.check_filled(part, dataset_paths)
    if validate:
        check_schema(storage, part, before)


def _resolve_backend(path: Path, options: WriteOptions, nwbfile: NWBFile | None, *, append: bool) -> Backend:
    backend = options.backend or stated_backend(options.backend_configuration)
    if not append:
        if nwbfile is not None:
            _check_nwbfile(nwbfile, path)
        chosen = choose_backend(path, backend)
        if chosen == "zarr" and path.suffix == ".nwb":
            log.warning("%s becomes a Zarr store; readers expect .nwb.zarr of one, and HDF5 by this name.", path)
        return chosen
    if nwbfile is not None:
        raise ConfigurationError(
            "append_on_disk_nwbfile adds to the file on disk; an nwbfile in memory cannot be given as well. "
            "Leave one of the two out."
        )
    on_disk = backend_of(path)
    if backend not in (None, on_disk):
        raise ConfigurationError(
            f"{path} is {on_disk!r}, so it cannot be appended to as {backend!r}. Leave the backend out."
        )
    return on_disk


def _check_nwbfile(nwbfile: NWBFile, path: Path) -> None:
    """Check that an NWBFile can be written to a path: a new one, or one that was read from another file."""
    source = nwbfile.container_source
    if source is None or (nwbfile.read_io is not None and Path(source).resolve() != path.resolve()):
        return
    raise ConfigurationError(
        f"The nwbfile was read from {source}, or written there before, and pynwb cannot write it "
        f"{'over itself' if nwbfile.read_io is not None else 'elsewhere'}. Add to the file on disk with "
        "append_on_disk_nwbfile=True and without nwbfile, or give another nwbfile."
    )
