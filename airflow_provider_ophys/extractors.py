"""
Recordings by name: a roiextractors class name, or an unambiguous short form of it, becomes an extractor.

The only importer of roiextractors, which takes seconds to load; so it is imported on first use. Only classes
that roiextractors itself lists are opened, never an arbitrary import path.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    ExtractorNotFoundError,
    ExtractorNotInstalledError,
    OphysError,
    SourceAccessError,
    SourceDataError,
    SourceNotFoundError,
    is_passing,
    unreadable,
)
from airflow_provider_ophys.mended_extractors import mended, only_plane, takes_plane
from airflow_provider_ophys.models.recording import Kind, Movie
from airflow_provider_ophys.models.remarks import remark
from airflow_provider_ophys.opened_recordings import PATH_PARAMETER, note_recording
from airflow_provider_ophys.recordings import Recording, recording_of
from airflow_provider_ophys.recordings.formats import is_meant
from airflow_provider_ophys.recordings.planar_stack import PlanarStackRecording, named_planes
from airflow_provider_ophys.recordings.volumes import PLANE_INDEX

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

_BRUKER = "Use BrukerTiffImagingExtractor with folder_path, and channel_name where there are several channels."
SUCCESSORS = {
    "BrukerTiffMultiPlaneImagingExtractor": _BRUKER,
    "BrukerTiffSinglePlaneImagingExtractor": _BRUKER,
    "MiniscopeMultiRecordingImagingExtractor": "Use MiniscopeImagingExtractor, once for each recording.",
    "ScanImageLegacyImagingExtractor": "Use ScanImageImagingExtractor or MultiTIFFMultiPageExtractor.",
    "ScanImageTiffImagingExtractor": "Use ScanImageImagingExtractor.",
    "ScanImageTiffSinglePlaneImagingExtractor": "Use ScanImageImagingExtractor with plane_index.",
    "ScanImageTiffMultiPlaneImagingExtractor": "Use ScanImageImagingExtractor.",
    "ScanImageTiffSinglePlaneMultiFileImagingExtractor": "Use ScanImageImagingExtractor with plane_index.",
    "ScanImageTiffMultiPlaneMultiFileImagingExtractor": "Use ScanImageImagingExtractor.",
    "VolumetricImagingExtractor": "Use PlanarStackImagingExtractor.",
    "MultiImagingExtractor": "Name the extractor of the recording, with all of its files.",
}
"""Class that roiextractors has removed, or will -> what to use."""

# To open what cannot be opened, without a number from the system.
MORE_TRIES = 2

# Rates are told with six digits at the least.
RATE_TOLERANCE = 1e-6


def open_imaging(
    extractor: str,
    extractor_kwargs: Mapping[str, Any],
    *,
    check: bool = True,
    recording: Recording | None = None,
) -> ImagingExtractor:
    """
    Open a movie.

    :param extractor: Name of a roiextractors class (``"ScanImageImagingExtractor"``) or an unambiguous short
        form of it (``"ScanImage"``, ``"scan_image"``).
    :param extractor_kwargs: Its keyword arguments.
    :param check: Whether to check that the recording is whole.
    :param recording: What is known of it already, so that its headers are not read twice.
    :raises ExtractorNotFoundError: If there is no such imaging extractor; lists close names.
    :raises ExtractorNotInstalledError: If its optional package is missing; says what to install.
    :raises ConfigurationError: If the arguments do not fit its signature.
    :raises SourceNotFoundError: If a file or folder in the arguments does not exist.
    :raises SourceDataError: If it cannot read the recording.
    """
    return cast(
        "ImagingExtractor", _open("imaging", extractor, extractor_kwargs, check=check, recording=recording)
    )


def open_segmentation(
    extractor: str,
    extractor_kwargs: Mapping[str, Any],
    *,
    check: bool = True,
    allow_pickle: bool = False,
    recording: Recording | None = None,
) -> SegmentationExtractor:
    """
    Open a segmentation.

    :param extractor: Name of a roiextractors class (``"Suite2pSegmentationExtractor"``) or an unambiguous
        short form of it (``"Suite2p"``).
    :param extractor_kwargs: Its keyword arguments.
    :param check: Whether to check that the recording is whole.
    :param allow_pickle: Read pickles that hold more than data, and run what they run.
    :param recording: As for :func:`open_imaging`; has its own ``allow_pickle``.
    :raises OphysError: As :func:`open_imaging` does.
    """
    known = recording or recording_of("segmentation", extractor, extractor_kwargs, allow_pickle=allow_pickle)
    opened = _open("segmentation", extractor, extractor_kwargs, check=check, recording=known)
    return cast("SegmentationExtractor", opened)


def _open(
    kind: Kind,
    extractor: str,
    extractor_kwargs: Mapping[str, Any],
    *,
    check: bool = True,
    recording: Recording | None = None,
) -> object:
    extractor_class = find_extractor(kind, extractor)
    name = extractor_class.__name__
    _check_arguments(extractor_class, extractor_kwargs)
    if recording is None:
        recording = recording_of(kind, name, extractor_kwargs)
    if check:
        recording.check()
    reader, arguments = recording.reading()
    if isinstance(recording, PlanarStackRecording):
        arguments = {"imaging_extractors": _open_planes(arguments, check=check)}
    reader_class = extractor_class if reader == name else find_extractor(kind, reader)
    plane, arguments = _plane_apart(reader_class, arguments)
    try:
        opened = _opened(mended(reader_class, recording), _with_paths(arguments))
        if plane is not None:
            opened = only_plane(opened, plane)
        if check:
            _check_announced(recording, opened)
        if kind == "imaging":
            movies = _movies(recording)
            check_channel(recording, movies)
            _correct_rate(movies, opened)
    except ImportError as error:
        raise ExtractorNotInstalledError(_install_hint(name, error)) from error
    except OphysError:
        raise
    except Exception as error:
        raise unreadable(
            f"{name} cannot open the recording ({recording.describe()}): "
            f"{type(error).__name__}: {error}. Check extractor_kwargs, and that the "
            "files are complete and of this format.",
            error,
        ) from error
    note_recording(opened, recording)
    return opened


def _plane_apart(extractor_class: type, arguments: Mapping[str, Any]) -> tuple[int | None, Mapping[str, Any]]:
    """
    Take out of the arguments the plane of volumes that is asked for, if the extractor does not take it itself.

    :raises ConfigurationError: If it is no whole number.
    """
    if PLANE_INDEX not in arguments or not takes_plane(extractor_class):
        return None, arguments
    plane = arguments[PLANE_INDEX]
    if plane is not None and (isinstance(plane, bool) or not isinstance(plane, int)):
        raise ConfigurationError(f"extractor_kwargs.{PLANE_INDEX} is {plane!r}. Write a whole number, from 0.")
    return plane, {name: value for name, value in arguments.items() if name != PLANE_INDEX}


def _opened(reader_class: type, arguments: Mapping[str, Any]) -> Any:
    """
    Open an extractor, at the third try if need be.

    Not every reader tells of a share that failed for a moment: C libraries give no number.
    """
    for _ in range(MORE_TRIES):
        try:
            return reader_class(**arguments)
        except (ImportError, OphysError):
            raise
        except Exception as error:
            if is_passing(error):
                raise
    return reader_class(**arguments)


def _movies(recording: Recording) -> list[Movie]:
    try:
        contents = recording.contents()
    except (SourceDataError, SourceNotFoundError):
        return []  # the headers make no sense, which the check says where it matters
    return contents.movies if contents else []


def check_channel(recording: Recording, movies: Sequence[Movie]) -> None:
    """
    Check that the channel that is asked for is there: roiextractors overlooks its name where there is one only.

    :param movies: Those of the recording's contents.
    :raises SourceDataError: If it is not.
    """
    chosen = recording.arguments.get("channel_name")
    known = {movie.channel for movie in movies if movie.channel is not None}
    if chosen is not None and known and str(chosen) not in known:
        raise SourceDataError(
            f"The recording has no channel {chosen!r}, only {', '.join(sorted(known))} ({recording.describe()}). "
            "Correct channel_name."
        )


def _correct_rate(movies: Sequence[Movie], imaging: Any) -> None:
    """
    Have an extractor tell the recording's own rate.

    roiextractors 0.10 takes that of planes for that of volumes (Thor), that of the viewer (Micro-Manager) and a
    whole number (Scanbox); an extractor's stamps, where it has them, come before its rate.

    :raises SourceDataError: If it takes no number for it, as of a header of ScanImage that has none there.
    """
    rates = {movie.rate for movie in movies}
    rate, announced = (rates.pop() if len(rates) == 1 else None), imaging.get_sampling_frequency()
    try:
        is_number = announced is None or math.isfinite(announced)
    except TypeError:
        is_number = False
    if not is_number:
        raise SourceDataError(
            f"{type(imaging).__name__} takes {announced!r} for the rate of the recording. Its header is damaged; "
            "copy it again."
        )
    if rate is None or (announced and math.isclose(rate, announced, rel_tol=RATE_TOLERANCE)):
        return
    imaging.get_sampling_frequency = lambda: rate
    remark(
        f"The rate of the recording is {rate:.6g} Hz, as its files say; roiextractors takes it for {announced} Hz."
    )


def numbers_as_annotated(kind: Kind, extractor: str, extractor_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """
    Turn texts into numbers where an extractor's parameters are numbers, for templates render all to text.

    :param kind: ``"imaging"`` or ``"segmentation"``.
    :param extractor: Name of the extractor, or a short form of it.
    :param extractor_kwargs: Its keyword arguments, never changed; what is no number stays as it is.
    """
    converted = dict(extractor_kwargs)
    if any(isinstance(value, str) and re.fullmatch(r"[\s\d.eE+-]+", value) for value in converted.values()):
        try:
            parameters = inspect.signature(find_extractor(kind, extractor)).parameters
        except ExtractorNotFoundError:
            return converted  # opening it says so
        for name, value in converted.items():
            number = int if name == PLANE_INDEX else _number_type(parameters.get(name))
            if number is not None and isinstance(value, str):
                with suppress(ValueError):
                    converted[name] = number(value)
    return converted


def _number_type(parameter: inspect.Parameter | None) -> type[int | float] | None:
    """Return the type of a parameter that takes numbers, and neither texts nor true and false."""
    if parameter is None:
        return None
    kinds = {parameter.annotation, *get_args(parameter.annotation)}
    if kinds & {str, bool}:
        return None
    return float if float in kinds else int if int in kinds else None


def _open_planes(arguments: Mapping[str, Any], *, check: bool) -> list[Any]:
    """Open the planes of a stack that are named; the others are open."""
    return [
        plane if name is None else open_imaging(name, plane, check=check)
        for name, plane in named_planes(arguments)
    ]


def _check_announced(recording: Recording, opened: Any) -> None:
    """
    Compare the samples that were counted in the files with those that the extractor found.

    :raises SourceAccessError: If they differ: then a file could not be read for a moment, and nobody was told.
    """
    counted = recording.num_samples()
    if counted is not None and counted != (announced := int(opened.get_num_samples())):
        raise SourceAccessError(
            f"{type(opened).__name__} announces {announced} samples of the recording ({recording.describe()}), "
            f"but its files have {counted}. If the share with the recording failed for a moment, try again; else "
            "tell the authors of this package."
        )
    recording.counted = counted


def find_extractor(kind: Kind, name: str) -> type:
    """
    Look up an extractor class by its name or an unambiguous short form.

    :raises ExtractorNotFoundError: If there is none, or more than one, of that kind.
    """
    known = _known_extractors(kind)
    if name in known:
        return known[name]
    matches = [cls for class_name, cls in known.items() if is_meant(name, class_name)]
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
    successor = next((hint for old, hint in SUCCESSORS.items() if is_meant(name, old)), None)
    if successor:
        raise ExtractorNotFoundError(f"roiextractors has no {name} any more. {successor}")
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
    _, own = _plane_apart(extractor_class, extractor_kwargs)
    try:
        signature.bind(**own)
    except TypeError as error:
        known = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise ConfigurationError(
            f"extractor_kwargs do not fit {extractor_class.__name__}: {error}. It takes: {known}."
        ) from error
    for name, value in extractor_kwargs.items():
        if isinstance(value, (str, bool)) and _number_type(signature.parameters.get(name)) is not None:
            raise ConfigurationError(
                f"extractor_kwargs.{name} of {extractor_class.__name__} is {value!r}, which is no number. Write "
                "one, or have the template render one."
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


def _install_hint(name: str, error: ImportError) -> str:
    extra = next((extra for part, extra in EXTRAS.items() if part in name), None)
    wanted = f"'airflow-provider-ophys[{extra}]'" if extra else (error.name or "the package it names")
    return f"{name} needs a package that is not installed on this worker. Run: pip install {wanted}"
