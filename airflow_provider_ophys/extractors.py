"""
Recordings by name: a roiextractors class name, or an unambiguous short form of it, becomes an extractor.

The only importer of roiextractors, which takes seconds to load; so it is imported on first use. Only classes
that roiextractors itself lists are opened, never an arbitrary import path.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    ExtractorNotFoundError,
    ExtractorNotInstalledError,
    OphysError,
    SourceChangedError,
    SourceDataError,
    SourceNotFoundError,
    unreadable,
)
from airflow_provider_ophys.recordings import check_suite2p, check_tiff, is_tiff_name

if TYPE_CHECKING:
    from roiextractors import ImagingExtractor, SegmentationExtractor

Kind = Literal["imaging", "segmentation"]

EXTRAS = {
    "ScanImage": "scanimage",
    "Tiff": "tiff",
    "TIFF": "tiff",
    "Suite2p": "suite2p",
    "Miniscope": "miniscope",
    "Inscopix": "inscopix",
    "Caiman": "caiman",
}
"""Part of an extractor's name -> the extra of this package that installs what it needs."""

PATH_PARAMETER = re.compile(r"(^|_)(file|folder)?_?paths?$")

SCANIMAGE_MOST = 2**16

# Enough to tell two recordings from each other, little enough for a terabyte or 100,000 files on a share.
SAMPLE_BYTES = 64 * 1024
SAMPLES_PER_FILE = 16
SAMPLED_FILES = 64


def open_imaging(
    extractor: str, extractor_kwargs: Mapping[str, Any], *, known_whole: bool = False
) -> ImagingExtractor:
    """
    Open a movie.

    :param extractor: Name of a roiextractors class (``"ScanImageImagingExtractor"``) or an unambiguous short
        form of it (``"ScanImage"``, ``"scan_image"``).
    :param extractor_kwargs: Its keyword arguments.
    :param known_whole: It was opened before and has not changed: do not walk through all pages of its files again.
    :raises ExtractorNotFoundError: If there is no such imaging extractor; lists close names.
    :raises ExtractorNotInstalledError: If its optional package is missing; says what to install.
    :raises ConfigurationError: If the arguments do not fit its signature.
    :raises SourceNotFoundError: If a file or folder in the arguments does not exist.
    :raises SourceDataError: If it cannot read the recording.
    """
    imaging = cast("ImagingExtractor", _open("imaging", extractor, extractor_kwargs, known_whole=known_whole))
    _check_scanimage_counts(imaging)
    return imaging


def _check_scanimage_counts(imaging: ImagingExtractor) -> None:
    """
    Refuse what roiextractors 0.10 would read wrong without a word.

    Its ScanImage extractor numbers the pages of a file and the samples of a recording in 16 bits; beyond that,
    it gives the first ones again.
    """
    if type(imaging).__name__ != "ScanImageImagingExtractor":
        return
    pages = max(getattr(imaging, "_ifds_per_file", []), default=0)
    most = max(int(imaging.get_num_samples()), pages)
    if most > SCANIMAGE_MOST:
        raise SourceDataError(
            f"The recording has {imaging.get_num_samples()} samples and up to {pages} pages in a file, but "
            f"roiextractors' ScanImageImagingExtractor mixes up more than {SCANIMAGE_MOST} of either. Read it "
            "with MultiTIFFMultiPageExtractor, or split it into shorter recordings."
        )


def open_segmentation(extractor: str, extractor_kwargs: Mapping[str, Any]) -> SegmentationExtractor:
    """
    Open a segmentation.

    :param extractor: Name of a roiextractors class (``"Suite2pSegmentationExtractor"``) or an unambiguous
        short form of it (``"Suite2p"``).
    :param extractor_kwargs: Its keyword arguments.
    :raises OphysError: As :func:`open_imaging` does.
    """
    return cast("SegmentationExtractor", _open("segmentation", extractor, extractor_kwargs))


def _open(kind: Kind, extractor: str, extractor_kwargs: Mapping[str, Any], *, known_whole: bool = False) -> object:
    extractor_class = find_extractor(kind, extractor)
    name = extractor_class.__name__
    _check_arguments(extractor_class, extractor_kwargs)
    for parameter, path in _source_paths(extractor_kwargs):
        _check_exists(parameter, path)
    if not known_whole:
        _check_whole(name, extractor_kwargs)
    try:
        opened = extractor_class(**_with_paths(extractor_kwargs))
    except ImportError as error:
        raise ExtractorNotInstalledError(_install_hint(name, error)) from error
    except OphysError:
        raise
    except Exception as error:
        raise unreadable(
            f"{name} cannot open the recording ({describe_recording(extractor_kwargs)}): "
            f"{type(error).__name__}: {error}. Check that the files are complete and of this extractor's format.",
            error,
        ) from error
    if not known_whole:
        # ScanImage's finds the other files of an acquisition by itself.
        looked_at = {path for _, path in _source_paths(extractor_kwargs)}
        found = getattr(opened, "file_paths", None) or []
        _check_whole(name, {"file_paths": [file for file in found if Path(file) not in looked_at]})
    return opened


def describe_recording(extractor_kwargs: Mapping[str, Any]) -> str:
    """Name a recording in a message: its extractor's arguments."""
    return ", ".join(f"{key}={value!r}" for key, value in extractor_kwargs.items())


def recording_paths(extractor_kwargs: Mapping[str, Any]) -> list[str]:
    """Return the files and folders that an extractor's arguments name."""
    return [str(path) for _, path in _source_paths(extractor_kwargs)]


def _check_whole(name: str, extractor_kwargs: Mapping[str, Any]) -> None:
    """
    Check what an extractor would not notice: that the recording's files are whole.

    :raises SourceDataError: Names file and frame or field.
    """
    for _, path in _source_paths(extractor_kwargs):
        if name.startswith("Suite2p") and path.is_dir():
            check_suite2p(path, extractor_kwargs.get("plane_name"), extractor_kwargs.get("channel_name"))
        elif "tiff" in name.lower() or "ScanImage" in name:
            for _, file in _files_below(path):
                if path.is_file() or is_tiff_name(file.name):
                    check_tiff(file, by_page=name != "TiffImagingExtractor")


def find_extractor(kind: Kind, name: str) -> type:
    """
    Look up an extractor class by its name or an unambiguous short form.

    :raises ExtractorNotFoundError: If there is none, or more than one, of that kind.
    """
    known = _known_extractors(kind)
    if name in known:
        return known[name]
    matches = [cls for class_name, cls in known.items() if _short(class_name) == _short(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = " or ".join(sorted(cls.__name__ for cls in matches))
        raise ExtractorNotFoundError(f"{name!r} could be {names}. Write the one you mean.")
    other: Kind = "segmentation" if kind == "imaging" else "imaging"
    if name in _known_extractors(other):
        raise ExtractorNotFoundError(
            f"{name} reads a {other}, not {kind}. Use the operator for {other}, or an extractor for {kind}."
        )
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(sorted(known))}."
    raise ExtractorNotFoundError(f"roiextractors has no {kind} extractor named {name!r}. {hint}")


def _known_extractors(kind: Kind) -> dict[str, type]:
    from roiextractors import extractorlist

    listed = (
        extractorlist.imaging_extractor_full_list
        if kind == "imaging"
        else extractorlist.segmentation_extractor_full_list
    )
    return {cls.__name__: cls for cls in listed}


def _short(name: str) -> str:
    """``"ScanImageImagingExtractor"``, ``"scan_image"`` and ``"ScanImage"`` have the same short form."""
    return re.sub(r"(imaging|segmentation)?extractor$|[^a-z0-9]", "", name.lower().replace("_", ""))


def _check_arguments(extractor_class: type, extractor_kwargs: Mapping[str, Any]) -> None:
    signature = inspect.signature(extractor_class)
    try:
        signature.bind(**extractor_kwargs)
    except TypeError as error:
        known = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise ConfigurationError(
            f"extractor_kwargs do not fit {extractor_class.__name__}: {error}. It takes: {known}."
        ) from error


def _check_exists(parameter: str, path: Path) -> None:
    if not path.exists():
        raise SourceNotFoundError(
            f"{parameter} does not exist: {path}. Check the path, and that this worker mounts it."
        )


def _with_paths(extractor_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Turn paths into ``Path``: extractors are annotated to take str too, but ScanImage's fails on one."""
    converted = dict(extractor_kwargs)
    for parameter, value in extractor_kwargs.items():
        if PATH_PARAMETER.search(parameter):
            if isinstance(value, str):
                converted[parameter] = Path(value)
            elif isinstance(value, (list, tuple)):
                converted[parameter] = [Path(item) if isinstance(item, str) else item for item in value]
    return converted


def _source_paths(extractor_kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the files and folders that extractor arguments name, by the field's naming: ``file_path`` ..."""
    for parameter, value in extractor_kwargs.items():
        if PATH_PARAMETER.search(parameter):
            for path in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(path, (str, Path)):
                    yield parameter, Path(path)


def _install_hint(name: str, error: ImportError) -> str:
    extra = next((extra for part, extra in EXTRAS.items() if part in name), None)
    wanted = f"'airflow-provider-ophys[{extra}]'" if extra else (error.name or "the package it names")
    return f"{name} needs a package that is not installed on this worker. Run: pip install {wanted}"


def fingerprint_recording(extractor_kwargs: Mapping[str, Any]) -> str:
    """
    Compute what tells this recording from another: a digest over its files' names, sizes and content.

    Where the recording lies does not count, so a moved or copied one keeps its fingerprint; of a folder, neither
    do hidden files and NWB files, which may be results. The names and sizes of all files count; up to 64 evenly
    spread files are read, up to 16 evenly spread blocks of 64 KiB of each, the first and the last among them.

    :param extractor_kwargs: Keyword arguments of the extractor; those that are no paths count by value.
    :returns: ``"sha256:..."``.
    :raises SourceNotFoundError: If a file or folder in the arguments does not exist.
    """
    digest = hashlib.sha256()
    paths = list(_source_paths(extractor_kwargs))
    for parameter in sorted(set(extractor_kwargs) - {parameter for parameter, _ in paths}):
        digest.update(f"{parameter}={extractor_kwargs[parameter]!r}\n".encode())
    for parameter, path in paths:
        _check_exists(parameter, path)
        digest.update(f"{parameter}\n".encode())
        files = _files_below(path)
        sampled = set(_spread(len(files) - 1, SAMPLED_FILES))
        for index, (relative, file) in enumerate(files):
            size = file.stat().st_size
            digest.update(f"{relative} {size}\n".encode("utf-8", "surrogateescape"))
            if index in sampled:
                _update_with_samples(digest, file, size)
    return f"sha256:{digest.hexdigest()}"


RecordingState = dict[str, tuple[int, int]]
"""Size (bytes) and time of the last change (nanoseconds) of each file of a recording, by its path."""


def recording_state(extractor_kwargs: Mapping[str, Any]) -> RecordingState:
    """Note how large a recording's files are and when they were changed, for :func:`check_unchanged`."""
    stats = {
        str(file): file.stat()
        for _, path in _source_paths(extractor_kwargs)
        if path.exists()
        for _, file in _files_below(path)
    }
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def check_unchanged(extractor_kwargs: Mapping[str, Any], before: RecordingState) -> None:
    """
    Check that a recording is still what it was.

    :param extractor_kwargs: Keyword arguments of the extractor.
    :param before: What :func:`recording_state` returned.
    :raises SourceChangedError: If a file has grown, changed, come or gone; names it.
    """
    now = recording_state(extractor_kwargs)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            sizes = [f"{state[name][0]:,} bytes" if name in state else "absent" for state in (before, now)]
            raise SourceChangedError(
                f"The recording changed while it was converted: {name} ({sizes[0]}, then {sizes[1]}). Nothing was "
                "published. Wait until the acquisition is complete, for example with AcquisitionFolderSensor."
            )


def _files_below(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    below = [(file.relative_to(path), file) for file in sorted(path.rglob("*"))]
    return [
        (relative.as_posix(), file)
        for relative, file in below
        if not any(map(_may_be_a_result, relative.parts)) and file.is_file()
    ]


def _may_be_a_result(name: str) -> bool:
    return name.startswith(".") or name.endswith((".nwb", ".zarr"))


def _spread(last: int, count: int) -> list[int]:
    """Return up to ``count`` evenly spread numbers from 0 to ``last``."""
    return sorted({max(last, 0) * step // (count - 1) for step in range(count)})


def _update_with_samples(digest: hashlib._Hash, file: Path, size: int) -> None:
    with file.open("rb", buffering=0) as stream:
        for offset in _spread(size - SAMPLE_BYTES, SAMPLES_PER_FILE):
            stream.seek(offset)
            digest.update(stream.read(SAMPLE_BYTES))
