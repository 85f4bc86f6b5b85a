"""
Recordings by name: a roiextractors class name, or an unambiguous short form of it, becomes an extractor.

The only importer of roiextractors, which takes seconds to load; so it is imported on first use. Only classes
that roiextractors itself lists are opened, never an arbitrary import path.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    ExtractorNotFoundError,
    ExtractorNotInstalledError,
    OphysError,
    SourceDataError,
    unreadable,
)
from airflow_provider_ophys.models.allowed_roots import named_paths
from airflow_provider_ophys.models.recording import Kind
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.formats import short_name

if TYPE_CHECKING:
    from roiextractors import ImagingExtractor, SegmentationExtractor

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
    recording = recording_of(kind, name, extractor_kwargs)
    if not known_whole:
        recording.check()
    try:
        opened = extractor_class(**_with_paths(extractor_kwargs))
    except ImportError as error:
        raise ExtractorNotInstalledError(_install_hint(name, error)) from error
    except OphysError:
        raise
    except Exception as error:
        raise unreadable(
            f"{name} cannot open the recording ({recording.describe()}): "
            f"{type(error).__name__}: {error}. Check that the files are complete and of this extractor's format.",
            error,
        ) from error
    if not known_whole:
        # ScanImage's finds the other files of an acquisition by itself.
        found = [Path(file) for file in getattr(opened, "file_paths", None) or []]
        others = [file for file in found if file not in recording.files]
        if others:
            recording_of(kind, name, {"file_paths": others}).check()
    return opened


def opened_paths(extractor: object) -> Iterator[Path]:
    """
    Yield the files and folders that an extractor was opened with, as far as it knows them.

    :param extractor: Or several in one, such as a recording of many files.
    """
    attributes = getattr(extractor, "__dict__", {})
    named = {name: value for name, value in attributes.items() if PATH_PARAMETER.search(name)}
    yield from (path for _, path in named_paths("", [attributes.get("_kwargs"), named]))
    for value in attributes.values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if part is not extractor and hasattr(part, "_kwargs"):
                yield from opened_paths(part)


def find_extractor(kind: Kind, name: str) -> type:
    """
    Look up an extractor class by its name or an unambiguous short form.

    :raises ExtractorNotFoundError: If there is none, or more than one, of that kind.
    """
    known = _known_extractors(kind)
    if name in known:
        return known[name]
    matches = [cls for class_name, cls in known.items() if short_name(class_name) == short_name(name)]
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


def _check_arguments(extractor_class: type, extractor_kwargs: Mapping[str, Any]) -> None:
    signature = inspect.signature(extractor_class)
    try:
        signature.bind(**extractor_kwargs)
    except TypeError as error:
        known = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise ConfigurationError(
            f"extractor_kwargs do not fit {extractor_class.__name__}: {error}. It takes: {known}."
        ) from error


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


def _install_hint(name: str, error: ImportError) -> str:
    extra = next((extra for part, extra in EXTRAS.items() if part in name), None)
    wanted = f"'airflow-provider-ophys[{extra}]'" if extra else (error.name or "the package it names")
    return f"{name} needs a package that is not installed on this worker. Run: pip install {wanted}"
