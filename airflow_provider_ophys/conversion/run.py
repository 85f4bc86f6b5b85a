"""
One conversion, from a recording's name and options to a finished file and a report; all that an operator does.

Usable without Airflow: a scientist's script gets the same file from the same options.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_ophys import __version__
from airflow_provider_ophys.conversion.additions import Addition, MovieAddition, SegmentationAddition
from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.inspection import inspect_file, require_inspector
from airflow_provider_ophys.conversion.output import Output, WriteOptions, prepare_output, rehearse, write_output
from airflow_provider_ophys.conversion.preflight import size_on_disk
from airflow_provider_ophys.conversion.provenance import conversion_digest
from airflow_provider_ophys.conversion.publishing import (
    ANYTHING,
    check_output_folder,
    check_still,
    naming_write_errors,
)
from airflow_provider_ophys.conversion.recording_errors import naming_recordings
from airflow_provider_ophys.conversion.replacing import Kept, kept_for
from airflow_provider_ophys.conversion.reuse import check_proven, existing_record
from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.exceptions import (
    OphysError,
    SourceDataError,
    SourceNotFoundError,
)
from airflow_provider_ophys.extractors import numbers_as_annotated, open_imaging, open_segmentation
from airflow_provider_ophys.models.allowed_roots import (
    check_allowed,
    check_allowed_metadata,
    check_allowed_recording,
)
from airflow_provider_ophys.models.conversion import (
    Conversion,
    ImagingConversion,
    MovieOptions,
    SegmentationConversion,
    SegmentationOptions,
)
from airflow_provider_ophys.models.metadata import load_metadata, validate_metadata, with_own_metadata
from airflow_provider_ophys.models.metadata_sections import Metadata
from airflow_provider_ophys.models.output_path import check_output_path
from airflow_provider_ophys.models.problems import Problems
from airflow_provider_ophys.models.remarks import gathering_remarks, remark
from airflow_provider_ophys.models.result import ImagingResult, SegmentationResult
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.recordings import Recording, recording_of
from airflow_provider_ophys.recordings.state import SourceState, content_digest, fingerprint
from airflow_provider_ophys.sessions.source_metadata import DescribedPart, described_parts, with_headers
from airflow_provider_ophys.writing.memory import PeakMemory
from airflow_provider_ophys.writing.replacement import state_of
from airflow_provider_ophys.writing.sharing import check_not_stopped

if TYPE_CHECKING:
    from roiextractors import ImagingExtractor, SegmentationExtractor  # noqa: TID251 - the types only

log = logging.getLogger(__name__)


def convert_imaging(conversion: ImagingConversion, environment: Environment | None = None) -> ImagingResult:
    """
    Convert a movie, or several into one file.

    :param conversion: What to convert and how.
    :param environment: Where it runs.
    :raises OphysError: Before any pixel is read for everything that can be known then; in every case the file
        that was there before is still there.
    """
    return ImagingResult(**Run(conversion, environment or Environment()).convert())


def convert_segmentation(
    conversion: SegmentationConversion, environment: Environment | None = None
) -> SegmentationResult:
    """
    Convert a segmentation, or several into one file.

    :param conversion: What to convert and how.
    :param environment: Where it runs.
    :raises OphysError: As :func:`convert_imaging` does.
    """
    return SegmentationResult(**Run(conversion, environment or Environment()).convert())


@dataclass
class Run:
    """
    One conversion under way: :meth:`look`, :meth:`prepare`, then it is written.

    :param conversion: What to convert and how.
    :param environment: Where it runs.
    """

    conversion: Conversion
    environment: Environment
    metadata: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    parts: list[DescribedPart] = field(default_factory=list)
    source: SourceState | None = None
    unreadable: OphysError | None = None
    found: str | None = ANYTHING

    def __post_init__(self) -> None:
        self.problems = Problems(self.environment.problems)
        self.recordings = recordings_of(self.conversion, allow_pickle=self.environment.defaults.allow_pickle)
        self.kept = kept_by(self.conversion, self.environment)
        self.options = write_options(self.conversion, self.environment)

    def convert(self) -> dict[str, Any]:
        """Reuse what this conversion wrote before, or write it; return the content of the result."""
        started = time.monotonic()
        existing = self.look()
        if existing is not None:
            return reused_result(self.conversion, existing, started)
        with PeakMemory() as memory, naming_recordings(self.recordings):
            output = self.prepare()
            prepare_seconds = round(time.monotonic() - started, 3)
            written = write_output(output, self.options, record=self.record, source=self.source)
        with naming_write_errors(self.path, published=True):
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
            "source_bytes": 0 if self.source is None else self.source.num_bytes,
        }

    def look(self) -> dict[str, Any] | None:
        """
        Identify the conversion; return its record in the output that is there, if that may be reused.

        What is wrong is gathered, for :meth:`prepare` to tell.

        :raises PathNotAllowedError: If a path leads where it must not.
        """
        check_paths(self.conversion, self.environment)
        with self.problems.gather(), naming_recordings(self.recordings):
            try:
                check_files(self.recordings, self.environment)
                self.source = SourceState.of(self.recordings)
            except (SourceNotFoundError, SourceDataError) as error:
                self.unreadable = error
        if self.conversion.inspect is not None:
            with self.problems.gather():
                require_inspector()
        with self.problems.gather(), naming_write_errors(self.path):
            check_output_folder(check_output_path(self.conversion.nwbfile_path))
        with naming_write_errors(self.path):
            self.found, exists = state_of(self.path), self.path.exists()
        with self.problems.gather():
            self.metadata = self._load_metadata()
            metadata = validate_metadata(self.metadata)
            if self.source is not None:
                with naming_recordings(self.recordings):
                    self.record = _new_record(self.conversion, self.parts, metadata)
                    self.record["state"] = self.source.digest
        if self.record and exists:
            with self.problems.gather(), naming_write_errors(self.path):
                existing = existing_record(self.conversion, self.path, self.record["digest"], self.kept)
                if existing is not None:
                    check_proven(self.conversion, existing, cast("SourceState", self.source), self.content)
                if not self.problems:
                    return existing
        return None

    def prepare(self) -> Output:
        """Open the recordings and see whether all fits; raise everything that is in the way, in one error."""
        prepared = []
        with gathering_remarks() as remarks, self.problems.gather(), naming_recordings(self.recordings):
            prepared.append(self._prepare())
            # Opening it has more to say, if it fails as well.
            if self.unreadable is not None:
                raise self.unreadable
        if self.problems:
            # What is in the way may only be what another task has just published.
            check_still(self.path, self.found)
        self.problems.raise_found()
        self.record["remarks"] = remarks
        if self.conversion.reuse == "content":
            self.record["content"] = self.content()
        return cast("Output", prepared[0])

    def content(self) -> str:
        """Read all of the recordings for a digest of it."""
        with naming_recordings(self.recordings):
            return content_digest(self.recordings, partial(check_not_stopped, self.environment.stop))

    @property
    def path(self) -> Path:
        """Where the output goes."""
        return Path(self.conversion.nwbfile_path)

    @property
    def append(self) -> bool:
        """Whether to add to what is at the path."""
        return self.conversion.if_exists == "append" and self.path.exists()

    def _load_metadata(self) -> dict[str, Any]:
        """Return the given metadata, over what the headers of the recordings say."""
        metadata = load_metadata(self.conversion.metadata)
        check_allowed_metadata(metadata, self.environment.defaults.allowed_roots)
        existing = planes_and_devices(self.path) if self.append else frozenset()
        with naming_recordings(self.recordings):
            parts = described_parts(self.conversion, self.recordings, metadata)
            metadata, self.remarks = with_headers(
                parts, metadata, read_headers=self.conversion.source_metadata, existing=existing
            )
        self.parts = parts
        return metadata

    def _open(
        self, part: MovieOptions | SegmentationOptions, recording: Recording
    ) -> ImagingExtractor | SegmentationExtractor:
        open_it = open_imaging if part.kind == "imaging" else open_segmentation
        check = self.conversion.check_recording
        return open_it(part.extractor, part.extractor_kwargs, check=check, recording=recording)

    def _prepare(self) -> Output | None:
        """Return the output; ``None`` if the metadata, without which nothing can be added, are not known."""
        for text in self.remarks:
            remark(text)
        if not self.conversion.check_recording:
            remark("Whether the recording is whole was not checked (check_recording=False).")
        parts = zip(parts_of(self.conversion), self.recordings, strict=True)
        extractors = [self._open(part, recording) for part, recording in parts]
        if not self.parts:
            return None
        log.info("Converting with %s into %s.", self.conversion.extractor_names, self.path)
        metadata = with_own_metadata(extractors[0], self.metadata)
        validated = validate_metadata(metadata)
        output = prepare_output(
            self.path,
            additions_of(self.conversion, self.parts, extractors, metadata),
            metadata=validated,
            # Whether what is there now may be touched was decided before.
            overwrite=self.conversion.if_exists != "append",
            append=self.append,
            options=self.options,
            kept=self.kept,
            problems=self.problems,
        )
        output = replace(output, replace=self.append or self.conversion.if_exists == "overwrite", found=self.found)
        output = rehearse(output, self.options, self.problems)
        self.record["facts"] = output.facts
        return output


def planes_and_devices(path: Path) -> frozenset[str]:
    """Return the names of the imaging planes and devices of a file that is added to."""
    try:
        with open_storage(path).open_groups(path, "r") as root:
            groups = [root[name] for name in ("general/optophysiology", "general/devices") if name in root]
            return frozenset(name for group in groups for name in group)
    except (SourceDataError, OSError):
        return frozenset()  # that it is no such file is said where it is to be added to


def additions_of(
    conversion: Conversion, parts: Sequence[DescribedPart], extractors: Sequence[Any], metadata: Mapping[str, Any]
) -> list[Addition]:
    """
    Return what a conversion adds to an NWB file.

    :param parts: Which entry of the metadata describes each of its parts.
    :param extractors: One for each of its parts.
    :param metadata: Of all of them.
    """
    if isinstance(conversion, SegmentationConversion) and conversion.is_of_several:
        # Their names and keys depend on each other.
        options = {name: getattr(conversion, name) for name in SegmentationOptions.model_fields}
        del options["extractor"], options["extractor_kwargs"]
        keys = [part.metadata_key for part in parts]
        options["metadata_key"] = keys if any(keys) else None
        return [SegmentationAddition(extractors, metadata, options)]
    additions: list[Addition] = []
    for part, described, extractor in zip(conversion.parts, parts, extractors, strict=True):
        options = part.model_dump(exclude={"extractor", "extractor_kwargs"})
        options["metadata_key"] = described.metadata_key
        if part.kind == "imaging":
            options["photon_series_type"] = described.photon_series_type
            additions.append(MovieAddition(extractor, metadata, options))
        else:
            additions.append(SegmentationAddition(extractor, metadata, options))
    return additions


def check_paths(conversion: Conversion, environment: Environment) -> None:
    """
    Check where all paths lead; what is not allowed is not looked at, so that nothing is told about it.

    :raises PathNotAllowedError: If one leads outside of the allowed folders.
    :raises PreflightError: If several do, or if more is known to be wrong.
    """
    roots = environment.defaults.allowed_roots
    denied = Problems()
    with denied.gather():
        check_allowed("nwbfile_path", conversion.nwbfile_path, roots)
    for part in conversion.parts:
        with denied.gather():
            check_allowed_recording(part.extractor_kwargs, roots)
    with denied.gather():
        check_allowed_metadata(conversion.metadata, roots)
    if denied:
        problems = Problems(environment.problems)
        problems.take(denied)
        problems.raise_found()


def recordings_of(conversion: Conversion, *, allow_pickle: bool = False) -> list[Recording]:
    """Return what a conversion reads."""
    return [
        recording_of(part.kind, part.extractor, part.extractor_kwargs, allow_pickle=allow_pickle)
        for part in parts_of(conversion)
    ]


def parts_of(conversion: Conversion) -> list[MovieOptions | SegmentationOptions]:
    """Return what is converted, one by one; numbers that are texts in its arguments are numbers."""
    return [
        part.model_copy(
            update={"extractor_kwargs": numbers_as_annotated(part.kind, part.extractor, part.extractor_kwargs)}
        )
        for part in conversion.parts
    ]


def check_files(recordings: Sequence[Recording], environment: Environment) -> None:
    """
    Check where the files lead that extractors find by themselves.

    :raises PathNotAllowedError: If one leads outside of the allowed folders.
    """
    roots = environment.defaults.allowed_roots
    for recording in recordings if roots else ():
        for file in recording.files:
            check_allowed(f"{recording.extractor} reads", file, roots)


def kept_by(conversion: Conversion, environment: Environment) -> Kept:
    """Return what a conversion must not replace."""
    recordings = [part.extractor_kwargs for part in conversion.parts]
    return kept_for(recordings, conversion.metadata, environment.defaults.allowed_roots)


def _new_record(conversion: Conversion, parts: Sequence[DescribedPart], metadata: Metadata) -> dict[str, Any]:
    """Identify a conversion by what it writes, for :mod:`airflow_provider_ophys.conversion.provenance`."""
    recording = fingerprint([part.recording for part in parts])
    described = metadata.model_dump(mode="json", exclude_none=True)
    content = {
        "kind": conversion.kind,
        "metadata": described,
        "recording": recording,
        "series": [part.photon_series_type for part in parts if part.kind == "imaging"],
    }
    return {
        "digest": conversion_digest(conversion.content_options() | content),
        "kind": conversion.kind,
        "recording": recording,
        "extractor": conversion.extractor_names,
        "version": __version__,
        "validation": "valid" if conversion.validate_output else "not validated",
        "session": conversion.session_name,
    }


def write_options(conversion: Conversion, environment: Environment) -> WriteOptions:
    """Return how a conversion is written where it runs."""
    defaults = environment.defaults
    return WriteOptions(
        backend=conversion.backend,
        backend_configuration=conversion.backend_configuration,
        compression=conversion.compression or defaults.compression,
        wish=defaults.wish(conversion),
        validate=conversion.validate_output,
        inspect=conversion.inspect,
        stop=environment.stop,
        lock=environment.defaults.lock,
        watch=conversion.report,
    )


def reused_result(conversion: Conversion, record: dict[str, Any], started: float) -> dict[str, Any]:
    """
    Return the fields of the result of a conversion whose output was there already.

    :param record: Of the conversion, in the output.
    :param started: When it began, by the monotonic clock (seconds).
    """
    path, inspect = Path(conversion.nwbfile_path), conversion.inspect
    findings = None if inspect is None else inspect_file(open_storage(path), path, inspect)
    with naming_write_errors(path, published=True):
        found = result_of(path, record, time.monotonic() - started, reused=True)
    return found | {"inspection": findings}


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
