"""
One conversion, from a recording's name and options to a finished file and a report; all that an operator does.

Usable without Airflow: a scientist's script gets the same file from the same options.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hdmf.utils import get_data_shape
from pynwb import NWBFile
from pynwb.ophys import OnePhotonSeries, PlaneSegmentation, TwoPhotonSeries

from airflow_provider_ophys import __version__
from airflow_provider_ophys.conversion.datasets import path_of
from airflow_provider_ophys.conversion.inspection import inspect_file, require_inspector
from airflow_provider_ophys.conversion.output import Output, WriteOptions, prepare_output, rehearse, write_output
from airflow_provider_ophys.conversion.preflight import size_on_disk
from airflow_provider_ophys.conversion.provenance import conversion_digest, find_conversion, record_conversion
from airflow_provider_ophys.conversion.publishing import ANYTHING, check_output_folder, check_still
from airflow_provider_ophys.conversion.replacing import Kept, check_replaceable, kept_for
from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.exceptions import (
    MemoryBudgetError,
    OphysError,
    OutputExistsError,
    SourceAccessError,
    SourceDataError,
    unreadable,
)
from airflow_provider_ophys.extractors import open_imaging, open_segmentation
from airflow_provider_ophys.models.allowed_roots import (
    check_allowed,
    check_allowed_metadata,
    check_allowed_recording,
)
from airflow_provider_ophys.models.backend import Compression
from airflow_provider_ophys.models.conversion import Conversion, ImagingConversion, SegmentationConversion
from airflow_provider_ophys.models.metadata import load_metadata, validate_metadata, with_own_metadata
from airflow_provider_ophys.models.metadata_sections import Metadata
from airflow_provider_ophys.models.output_path import check_output_path
from airflow_provider_ophys.models.problems import Problems
from airflow_provider_ophys.models.remarks import gathering_remarks
from airflow_provider_ophys.models.result import ImagingResult, SegmentationResult
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.nwb.imaging import add_imaging_to_nwbfile
from airflow_provider_ophys.nwb.segmentation import add_segmentations
from airflow_provider_ophys.nwb.segmentation_plan import Include, PlannedSegmentation
from airflow_provider_ophys.nwb.summary_images import CONTAINER as SUMMARY_IMAGES
from airflow_provider_ophys.recordings import Recording, recording_of
from airflow_provider_ophys.recordings.state import RecordingState, check_unchanged, fingerprint, recording_state
from airflow_provider_ophys.writing.memory import DEFAULT_FRACTION, DEFAULT_LIMIT_BYTES, PeakMemory
from airflow_provider_ophys.writing.replacement import state_of
from airflow_provider_ophys.writing.sharing import Wish

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Defaults:
    """
    What a platform sets for all conversions that do not say otherwise.

    :param memory_limit: Most bytes in flight.
    :param memory_fraction: Most of the memory that is available, between 0 and 1.
    :param threads: Encoding threads; ``None`` for one per CPU that this process may use.
    :param compression: ``"fast"``, ``"small"`` or ``"none"``.
    :param allowed_roots: Folders that every path has to lead into; none means that all are allowed.
    :param lock: Whether to keep two writers of one output apart by a lock.
    :param allow_pickle: Whether pickles in a recording may hold more than data, and run what they want.
    """

    memory_limit: int = DEFAULT_LIMIT_BYTES
    memory_fraction: float = DEFAULT_FRACTION
    threads: int | None = None
    compression: Compression = "fast"
    allowed_roots: tuple[Path, ...] = ()
    allow_pickle: bool = False
    lock: bool = True

    def wish(self, conversion: Conversion) -> Wish:
        """Return what a conversion would use if it were alone."""
        return Wish(
            memory_limit=conversion.memory_limit,
            default_limit=self.memory_limit,
            fraction=self.memory_fraction,
            threads=conversion.threads or self.threads,
        )


@dataclass(frozen=True)
class Circumstances:
    """
    What a conversion finds where it runs.

    :param defaults: For what the conversion leaves open.
    :param problems: What is known to be in the way already; nothing is then converted, and all that is found
        besides is told with it.
    :param stop: Set it, from anywhere, to end the conversion; nothing is then published.
    """

    defaults: Defaults = Defaults()
    problems: Sequence[OphysError] = ()
    stop: threading.Event = field(default_factory=threading.Event)


def convert_imaging(conversion: ImagingConversion, circumstances: Circumstances | None = None) -> ImagingResult:
    """
    Convert a movie.

    :param conversion: What to convert and how.
    :param circumstances: Where it runs.
    :raises OphysError: Before any pixel is read for everything that can be known then; in every case the file
        that was there before is still there.
    """
    return ImagingResult(**imaging_run(conversion, circumstances or Circumstances()).convert())


def imaging_run(conversion: ImagingConversion, circumstances: Circumstances) -> Run:
    """Return the conversion of a movie, of which nothing is done yet."""

    def add(extractors: list[Any], nwbfile: NWBFile, metadata: dict[str, Any]) -> dict[str, Any]:
        add_imaging_to_nwbfile(
            extractors[0],
            nwbfile,
            metadata,
            photon_series_type=conversion.photon_series_type,
            photon_series_index=conversion.photon_series_index,
            metadata_key=conversion.metadata_key,
            parent_container=conversion.parent_container,
            always_write_timestamps=conversion.always_write_timestamps,
            iterator_type=conversion.iterator_type,
            iterator_options=conversion.iterator_options,
        )
        data = _added(nwbfile)[0].data
        num_samples, *sample_shape = get_data_shape(data)
        return {"num_samples": num_samples, "sample_shape": sample_shape, "dtype": data.dtype.name}

    return Run(conversion, open_imaging, add, circumstances)


def convert_segmentation(
    conversion: SegmentationConversion, circumstances: Circumstances | None = None
) -> SegmentationResult:
    """
    Convert a segmentation.

    :param conversion: What to convert and how.
    :param circumstances: Where it runs.
    :raises OphysError: As :func:`convert_imaging` does.
    """

    def add(extractors: list[Any], nwbfile: NWBFile, metadata: dict[str, Any]) -> dict[str, Any]:
        added = add_segmentations(
            extractors if conversion.is_of_several else extractors[0],
            nwbfile,
            metadata,
            metadata_key=conversion.metadata_key,
            plane_segmentation_name=conversion.plane_segmentation_name,
            background_plane_segmentation_name=conversion.background_plane_segmentation_name,
            include=Include(
                background=conversion.include_background_segmentation,
                roi_centroids=conversion.roi_centroids if conversion.include_roi_centroids else None,
                roi_acceptance=conversion.include_roi_acceptance,
                mask_type=conversion.mask_type,
                iterator_options=conversion.iterator_options or {},
            ),
        )
        return _segmentation_facts(added, nwbfile)

    circumstances = circumstances or Circumstances()
    open_cells = partial(open_segmentation, allow_pickle=circumstances.defaults.allow_pickle)
    run = Run(conversion, open_cells, add, circumstances)
    return SegmentationResult(**run.convert())


def _added(nwbfile: NWBFile) -> list[Any]:
    """Return the series and tables that were just added: those that no file holds yet."""
    kinds = (OnePhotonSeries, TwoPhotonSeries, PlaneSegmentation)
    return [
        child for child in nwbfile.all_children() if isinstance(child, kinds) and child.container_source is None
    ]


def _segmentation_facts(added: Sequence[PlannedSegmentation], nwbfile: NWBFile) -> dict[str, Any]:
    traces = [role for each in added for role in (*each.traces.of_rois, *each.traces.of_background)]
    return {
        "num_rois": sum(each.num_rois for each in added),
        "traces": list(dict.fromkeys(traces)),
        "plane_segmentations": [table.name for table in _added(nwbfile)],
    }


@dataclass(frozen=True)
class Prepared:
    """An output that nothing is in the way of: what to write, what adds it to an NWBFile, and how."""

    output: Output
    add: Callable[[NWBFile], None]
    options: WriteOptions


@dataclass
class Run:
    """
    One conversion under way.

    :param open_extractor: Opens the recording by the extractor's name and arguments.
    :param add: Adds it to an NWBFile, with its metadata; returns the facts for the result.
    """

    conversion: Conversion
    open_extractor: Callable[[str, dict[str, Any]], Any]
    add: Callable[[list[Any], NWBFile, dict[str, Any]], dict[str, Any]]
    circumstances: Circumstances
    given: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    state: RecordingState = field(default_factory=dict)
    location: str = ""
    found: str | None = ANYTHING

    def __post_init__(self) -> None:
        self.problems = Problems(self.circumstances.problems)
        allow_pickle = self.circumstances.defaults.allow_pickle
        self.recordings = recordings_of(self.conversion, allow_pickle=allow_pickle)
        self.kept = kept_by(self.conversion, self.circumstances)

    def convert(self) -> dict[str, Any]:
        """Reuse what this conversion wrote before, or write it; return the content of the result."""
        started = time.monotonic()
        existing = self.look()
        if existing is not None:
            inspect = self.conversion.inspect
            findings = None if inspect is None else inspect_file(open_storage(self.path), self.path, inspect)
            found = result_of(self.path, existing, time.monotonic() - started, reused=True)
            return found | {"inspection": findings}
        with PeakMemory() as memory, naming_recording(self.conversion):
            prepared = self.prepare()
            prepare_seconds = round(time.monotonic() - started, 3)
            written = write_output(
                prepared.output,
                prepared.add,
                prepared.options,
                note=self.note,
                approve=lambda: check_unchanged(self.recordings, self.state),
            )
        result = result_of(
            self.path,
            self.record,
            time.monotonic() - started,
            bulk_bytes=written.bulk_bytes,
            peak_memory_bytes=memory.peak_bytes,
        )
        return result | {
            "inspection": written.inspection,
            "durations": {"prepare": prepare_seconds} | written.durations,
            "source_bytes": sum(size for size, _ in self.state.values()),
        }

    def look(self) -> dict[str, Any] | None:
        """
        Identify the conversion; return its record in the output that is there, if that may be reused.

        What is wrong is gathered, for :meth:`prepare` to tell.

        :raises PathNotAllowedError: If a path leads where it must not.
        """
        check_paths(self.conversion, self.circumstances)
        with self.problems.gather():
            check_files(self.recordings, self.circumstances)
            self.state = recording_state(self.recordings)
        if self.conversion.inspect is not None:
            with self.problems.gather():
                require_inspector()
        with self.problems.gather():
            check_output_folder(check_output_path(self.conversion.nwbfile_path))
        self.found = state_of(self.path)
        with self.problems.gather():
            self.given = load_metadata(self.conversion.metadata)
            check_allowed_metadata(self.given, self.circumstances.defaults.allowed_roots)
            self.record = _new_record(self.conversion, self.recordings, validate_metadata(self.given))
        if self.record and self.path.exists():
            with self.problems.gather():
                existing = _existing_record(self.conversion, self.path, self.record["digest"], self.kept)
                if not self.problems:
                    return existing
        return None

    def prepare(self) -> Prepared:
        """Open the recording and see whether all fits; raise everything that is in the way, in one error."""
        prepared = []
        with gathering_remarks() as remarks, self.problems.gather():
            prepared.append(self._prepare())
        if self.problems:
            # What is in the way may only be what another task has just published.
            check_still(self.path, self.found)
        self.problems.tell()
        self.record["remarks"] = remarks
        return prepared[0]

    def note(self, root: Any) -> None:
        """Write the record into the open file, beside what was added."""
        record_conversion(root, self.location, self.record)

    @property
    def path(self) -> Path:
        """Where the output goes."""
        return Path(self.conversion.nwbfile_path)

    @property
    def append(self) -> bool:
        """Whether to add to what is at the path."""
        return self.conversion.if_exists == "append" and self.path.exists()

    def _prepare(self) -> Prepared:
        options = write_options(self.conversion, self.circumstances)
        extractors = [self.open_extractor(name, kwargs) for name, kwargs in self.conversion.recordings]
        log.info("Converting with %s into %s.", self.conversion.extractor_names, self.path)
        metadata = with_own_metadata(extractors[0], self.given)
        validated = validate_metadata(metadata)

        def add(nwbfile: NWBFile) -> None:
            self._add(extractors, nwbfile, metadata)

        output = prepare_output(
            self.path,
            metadata=validated,
            # Whether what is there now may be touched was decided before.
            overwrite=self.conversion.if_exists != "append",
            append=self.append,
            options=options,
            kept=self.kept,
            problems=self.problems,
        )
        output = replace(output, replace=self.append or self.conversion.if_exists == "overwrite", found=self.found)
        return Prepared(rehearse(output, add, options, self.problems), add, options)

    def _add(self, extractors: list[Any], nwbfile: NWBFile, metadata: dict[str, Any]) -> None:
        with naming_recording(self.conversion):
            self.record["facts"] = self.add(extractors, nwbfile, metadata)
        added = _added(nwbfile)
        self.location = path_of(added[0] if added else nwbfile.processing["ophys"][SUMMARY_IMAGES])


def check_paths(conversion: Conversion, circumstances: Circumstances) -> None:
    """
    Check where all paths lead; what is not allowed is not looked at, so that nothing is told about it.

    :raises PathNotAllowedError: If one leads outside of the allowed folders.
    :raises PreflightError: If several do, or if more is known to be wrong.
    """
    roots = circumstances.defaults.allowed_roots
    denied = Problems()
    with denied.gather():
        check_allowed("nwbfile_path", conversion.nwbfile_path, roots)
    for _, extractor_kwargs in conversion.recordings:
        with denied.gather():
            check_allowed_recording(extractor_kwargs, roots)
    with denied.gather():
        check_allowed_metadata(conversion.metadata, roots)
    if denied:
        problems = Problems(circumstances.problems)
        problems.take(denied)
        problems.tell()


def recordings_of(conversion: Conversion, *, allow_pickle: bool = False) -> list[Recording]:
    """Return what a conversion reads."""
    return [
        recording_of(conversion.kind, name, kwargs, allow_pickle=allow_pickle)
        for name, kwargs in conversion.recordings
    ]


def check_files(recordings: Sequence[Recording], circumstances: Circumstances) -> None:
    """
    Check where the files lead that extractors find by themselves.

    :raises PathNotAllowedError: If one leads outside of the allowed folders.
    """
    roots = circumstances.defaults.allowed_roots
    for recording in recordings if roots else ():
        for file in recording.files:
            check_allowed(f"{recording.extractor} reads", file, roots)


def kept_by(conversion: Conversion, circumstances: Circumstances) -> Kept:
    """Return what a conversion must not replace."""
    recordings = [kwargs for _, kwargs in conversion.recordings]
    return kept_for(recordings, conversion.metadata, circumstances.defaults.allowed_roots)


@contextmanager
def naming_recording(conversion: Conversion) -> Iterator[None]:
    """
    Name the recording in errors about it, and turn what a library says into one.

    :raises SourceDataError: Of the same kind as within, or for an error that is none of ours.
    """
    recordings = recordings_of(conversion)
    recording = "; ".join(each.describe() for each in recordings)
    try:
        yield
    except (SourceDataError, SourceAccessError) as error:
        if any(str(path) in str(error) for each in recordings for path in each.paths.values()):
            raise
        raise type(error)(f"{error} Recording: {recording}.") from error
    except MemoryError as error:
        if isinstance(error, OphysError):
            raise
        raise MemoryBudgetError(
            f"There was not enough memory for {recording}: {error}. Lower memory_limit or run fewer tasks."
        ) from error
    except OphysError:
        raise
    except Exception as error:
        raise unreadable(
            f"{conversion.extractor_names} cannot be converted ({recording}): {type(error).__name__}: {error}. "
            "Check that the files are complete and of this extractor's format.",
            error,
        ) from error


def _new_record(conversion: Conversion, recordings: Sequence[Recording], metadata: Metadata) -> dict[str, Any]:
    """Identify a conversion by what it writes, for :mod:`airflow_provider_ophys.conversion.provenance`."""
    recording = fingerprint(recordings)
    described = metadata.model_dump(mode="json", exclude_none=True)
    content = {"kind": conversion.kind, "metadata": described, "recording": recording}
    return {
        "digest": conversion_digest(conversion.content_options() | content),
        "kind": conversion.kind,
        "recording": recording,
        "extractor": conversion.extractor_names,
        "version": __version__,
        "validation": "valid" if conversion.validate_output else "not validated",
    }


def _existing_record(conversion: Conversion, path: Path, digest: str, kept: Kept) -> dict[str, Any] | None:
    """
    Return the record of this very conversion in an output that exists, if the user wants it reused.

    :raises OutputExistsError: If the output may not be touched and is not this conversion's; says whether it could
        be replaced.
    """
    if conversion.if_exists in ("overwrite", "fail"):
        check_replaceable(path, kept)
    if conversion.if_exists == "overwrite":
        return None
    if conversion.if_exists == "fail":
        raise OutputExistsError(f"{path} exists already, and if_exists='fail' says to leave it. {_WAYS_OUT}")
    record = find_conversion(path, digest)
    if record is None:
        check_replaceable(path, kept)
    if record is None and conversion.if_exists == "reuse":
        raise OutputExistsError(
            f"{path} exists already and was not written by this conversion: the recording, an option or the "
            f"metadata differ, or something else wrote it. {_WAYS_OUT}"
        )
    return record


_WAYS_OUT = "Replace it with if_exists='overwrite', add to it with if_exists='append', or write elsewhere."


def write_options(conversion: Conversion, circumstances: Circumstances) -> WriteOptions:
    """Return how a conversion is written where it runs."""
    defaults = circumstances.defaults
    return WriteOptions(
        backend=conversion.backend,
        backend_configuration=conversion.backend_configuration,
        compression=conversion.compression or defaults.compression,
        wish=defaults.wish(conversion),
        validate=conversion.validate_output,
        inspect=conversion.inspect,
        stop=circumstances.stop,
        lock=circumstances.defaults.lock,
    )


def result_of(
    path: Path,
    record: dict[str, Any],
    elapsed_seconds: float,
    *,
    bulk_bytes: int = 0,
    peak_memory_bytes: int = 0,
    reused: bool = False,
) -> dict[str, Any]:
    """
    Return the fields of the result of a conversion.

    :param path: Of the finished output.
    :param record: Of the conversion, in it.
    :param bulk_bytes: Uncompressed bytes of the arrays that were filled.
    :param peak_memory_bytes: Most memory that a process held for it.
    :param reused: Whether the output was there already.
    """
    facts: dict[str, Any] = record["facts"]
    return facts | {
        "nwbfile_path": str(path),
        "backend": backend_of(path),
        "size_bytes": size_on_disk(path),
        "elapsed_seconds": round(elapsed_seconds, 3),
        "throughput_mb_per_s": round(bulk_bytes / elapsed_seconds / 1e6, 1),
        "uncompressed_bytes": bulk_bytes,
        "peak_memory_bytes": peak_memory_bytes,
        "reused": reused,
        "validation": record["validation"],
        "remarks": record.get("remarks", []),
    }
