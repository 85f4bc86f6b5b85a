"""
One conversion, from a recording's name and options to a finished file and a report; all that an operator does.

Usable without Airflow: a scientist's script gets the same file from the same options.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pynwb import NWBFile
from pynwb.ophys import OnePhotonSeries, PlaneSegmentation, TwoPhotonSeries

from airflow_provider_ophys import __version__
from airflow_provider_ophys.exceptions import OutputExistsError
from airflow_provider_ophys.extractors import fingerprint_recording, open_imaging, open_segmentation
from airflow_provider_ophys.models.backend import Compression
from airflow_provider_ophys.models.conversion import Conversion, ImagingConversion, SegmentationConversion
from airflow_provider_ophys.models.metadata import load_metadata, validate_metadata, with_own_metadata
from airflow_provider_ophys.models.result import ImagingResult, SegmentationResult
from airflow_provider_ophys.nwb.backend import path_of
from airflow_provider_ophys.nwb.files import WriteOptions, backend_of, write_nwbfile
from airflow_provider_ophys.nwb.imaging import add_imaging_to_nwbfile
from airflow_provider_ophys.nwb.provenance import conversion_digest, find_conversion, record_conversion
from airflow_provider_ophys.nwb.publishing import check_output_folder
from airflow_provider_ophys.nwb.segmentation import add_segmentation_to_nwbfile, found_traces
from airflow_provider_ophys.writing.memory import DEFAULT_FRACTION, DEFAULT_LIMIT_BYTES, PeakMemory
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
    """

    memory_limit: int = DEFAULT_LIMIT_BYTES
    memory_fraction: float = DEFAULT_FRACTION
    threads: int | None = None
    compression: Compression = "fast"

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
    :param stop: Set it, from anywhere, to end the conversion; nothing is then published.
    """

    defaults: Defaults = Defaults()
    stop: threading.Event = field(default_factory=threading.Event)


def convert_imaging(conversion: ImagingConversion, circumstances: Circumstances | None = None) -> ImagingResult:
    """
    Convert a movie.

    :param conversion: What to convert and how.
    :param circumstances: Where it runs.
    :raises OphysError: Before any pixel is read for everything that can be known then; in every case the file
        that was there before is still there.
    """

    def add(extractor: Any, nwbfile: NWBFile, metadata: dict[str, Any]) -> dict[str, Any]:
        add_imaging_to_nwbfile(
            extractor,
            nwbfile,
            metadata,
            photon_series_type=conversion.photon_series_type,
            photon_series_index=conversion.photon_series_index,
            metadata_key=conversion.metadata_key,
            parent_container=conversion.parent_container,
            always_write_timestamps=conversion.always_write_timestamps,
            iterator_options=conversion.iterator_options,
        )
        data = _added(nwbfile).data
        num_samples, *sample_shape = data.maxshape
        return {"num_samples": num_samples, "sample_shape": sample_shape, "dtype": data.dtype.name}

    return ImagingResult(**_convert(conversion, open_imaging, add, circumstances or Circumstances()))


def convert_segmentation(
    conversion: SegmentationConversion, circumstances: Circumstances | None = None
) -> SegmentationResult:
    """
    Convert a segmentation.

    :param conversion: What to convert and how.
    :param circumstances: Where it runs.
    :raises OphysError: As :func:`convert_imaging` does.
    """

    def add(extractor: Any, nwbfile: NWBFile, metadata: dict[str, Any]) -> dict[str, Any]:
        add_segmentation_to_nwbfile(
            extractor,
            nwbfile,
            metadata,
            metadata_key=conversion.metadata_key,
            mask_type=conversion.mask_type,
            include_roi_centroids=conversion.include_roi_centroids,
            include_roi_acceptance=conversion.include_roi_acceptance,
            iterator_options=conversion.iterator_options,
        )
        return {"num_rois": len(_added(nwbfile)), "traces": list(found_traces(extractor))}

    return SegmentationResult(**_convert(conversion, open_segmentation, add, circumstances or Circumstances()))


def _added(nwbfile: NWBFile) -> Any:
    """Return the series or table that was just added: the only one that no file holds yet."""
    kinds = (OnePhotonSeries, TwoPhotonSeries, PlaneSegmentation)
    (added,) = [
        child for child in nwbfile.all_children() if isinstance(child, kinds) and child.container_source is None
    ]
    return added


def _convert(
    conversion: Conversion,
    open_extractor: Callable[[str, dict[str, Any]], Any],
    add: Callable[[Any, NWBFile, dict[str, Any]], dict[str, Any]],
    circumstances: Circumstances,
) -> dict[str, Any]:
    started = time.monotonic()
    path = Path(conversion.nwbfile_path)
    given = load_metadata(conversion.metadata)
    check_output_folder(path)
    record = _new_record(conversion, given)
    append = path.exists() and conversion.if_exists == "append"
    if path.exists():
        existing = _existing_record(conversion, path, record["digest"])
        if existing is not None:
            return _result(path, existing, started, bulk_bytes=0, peak_memory_bytes=0, reused=True)

    extractor = open_extractor(conversion.extractor, conversion.extractor_kwargs)
    log.info("Converting with %s into %s.", type(extractor).__name__, path)
    metadata = with_own_metadata(extractor, given)
    location = ""

    def add_and_note(nwbfile: NWBFile) -> None:
        nonlocal location
        record["facts"] = add(extractor, nwbfile, metadata)
        location = path_of(_added(nwbfile))

    with PeakMemory() as memory:
        written = write_nwbfile(
            path,
            add_and_note,
            metadata=validate_metadata(metadata),
            overwrite=conversion.if_exists == "overwrite",
            append=append,
            options=_write_options(conversion, circumstances),
            note=lambda root: record_conversion(root, location, record),
        )
    return _result(
        path,
        record,
        started,
        bulk_bytes=written.bulk_bytes,
        peak_memory_bytes=memory.peak_bytes,
        reused=False,
    )


def _new_record(conversion: Conversion, metadata: dict[str, Any]) -> dict[str, Any]:
    """Identify a conversion by what it writes, for :mod:`airflow_provider_ophys.nwb.provenance`."""
    fingerprint = fingerprint_recording(conversion.extractor_kwargs)
    described = validate_metadata(metadata).model_dump(mode="json", exclude_none=True)
    content = {"kind": conversion.kind, "metadata": described, "recording": fingerprint}
    return {
        "digest": conversion_digest(conversion.content_options() | content),
        "kind": conversion.kind,
        "recording": fingerprint,
        "extractor": conversion.extractor,
        "version": __version__,
        "validation": "valid" if conversion.validate_output else "not validated",
    }


def _existing_record(conversion: Conversion, path: Path, digest: str) -> dict[str, Any] | None:
    """
    Return the record of this very conversion in an output that exists, if the user wants it reused.

    :raises OutputExistsError: If the output may not be touched and is not this conversion's.
    """
    if conversion.if_exists == "overwrite":
        return None
    if conversion.if_exists == "fail":
        raise OutputExistsError(f"{path} exists already, and if_exists='fail' says to leave it. {_WAYS_OUT}")
    record = find_conversion(path, digest)
    if record is None and conversion.if_exists == "reuse":
        raise OutputExistsError(
            f"{path} exists already and was not written by this conversion: the recording, an option or the "
            f"metadata differ, or something else wrote it. {_WAYS_OUT}"
        )
    return record


_WAYS_OUT = "Replace it with if_exists='overwrite', add to it with if_exists='append', or write elsewhere."


def _write_options(conversion: Conversion, circumstances: Circumstances) -> WriteOptions:
    defaults = circumstances.defaults
    return WriteOptions(
        backend=conversion.backend,
        backend_configuration=conversion.backend_configuration,
        compression=conversion.compression or defaults.compression,
        wish=defaults.wish(conversion),
        validate=conversion.validate_output,
        stop=circumstances.stop,
    )


def _result(
    path: Path, record: dict[str, Any], started: float, *, bulk_bytes: int, peak_memory_bytes: int, reused: bool
) -> dict[str, Any]:
    elapsed_seconds = time.monotonic() - started
    facts: dict[str, Any] = record["facts"]
    return facts | {
        "nwbfile_path": str(path),
        "backend": backend_of(path),
        "size_bytes": _size_on_disk(path),
        "elapsed_seconds": round(elapsed_seconds, 3),
        "throughput_mb_per_s": round(bulk_bytes / elapsed_seconds / 1e6, 1),
        "peak_memory_bytes": peak_memory_bytes,
        "reused": reused,
        "validation": record["validation"],
    }


def _size_on_disk(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
