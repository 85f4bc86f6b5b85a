"""
What is private or peculiar in roiextractors, in one place that fails loudly.

Some of what a file needs, such as which ROI each column of a trace is of, roiextractors keeps to itself. Where a
name is not there any more, nothing may be guessed: :func:`private` raises, and says which version it is. Nothing
of roiextractors is imported here; what is looked at are the objects that are given.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.exceptions import ExtractorVersionError, is_passing, unreadable
from airflow_provider_ophys.models.remarks import remark

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

BASE_MODULES = ("roiextractors.segmentationextractor", "roiextractors.imagingextractor")
BASES = ("SegmentationExtractor", "ImagingExtractor")

# What roiextractors calls traces; others are written too, if an extractor has them.
TRACE_ROLES = ("raw", "dff", "neuropil", "deconvolved", "denoised", "baseline", "background")

# The class of some of the samples of a movie, and that of movies which know their channel by its place only.
SAMPLES_OF_A_MOVIE = "SampleSlicedImagingExtractor"
CHANNEL_BY_PLACE = "MultiTIFFMultiPageExtractor"

ROI_AXIS = 2

# What CaimanSegmentationExtractor says of each ROI if nobody evaluated them, or if none was accepted.
CAIMAN_ACCEPTANCE = "is_accepted"


def private(owner: object, name: str) -> Any:
    """
    Return a private attribute of an object of roiextractors.

    :returns: ``None`` of an object that is not roiextractors', which owes nobody its attributes.
    :raises ExtractorVersionError: If it is not there.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        if not _classes_of_roiextractors(owner):
            return None
    raise ExtractorVersionError(
        f"{type(owner).__name__} has no {name}, which roiextractors {version('roiextractors')} should have. "
        "Install a version of roiextractors that this package knows (0.10); a class of your own has to call its "
        "base's __init__."
    )


def _classes_of_roiextractors(owner: object) -> list[type]:
    return [cls for cls in type(owner).__mro__ if cls.__module__.partition(".")[0] == "roiextractors"]


def parent_of(extractor: Any) -> Any | None:
    """
    Return what a selection of samples or ROIs was selected from; ``None`` of a whole segmentation.

    :raises ExtractorVersionError: If it is a selection, and it is not told of what.
    """
    if hasattr(extractor, "_parent_segmentation"):
        return extractor._parent_segmentation  # noqa: SLF001 - this is the place for it
    is_derived = any(cls.__name__ not in BASES for cls in _classes_of_roiextractors(extractor))
    held = [value for value in vars(extractor).values() if hasattr(value, "get_traces_dict")]
    return private(extractor, "_parent_segmentation") if is_derived and held else None


def whole_of(extractor: Any) -> Any:
    """Return the segmentation that a selection, or a selection of one, was selected from."""
    while (parent := parent_of(extractor)) is not None:
        extractor = parent
    return extractor


def whole_movie_of(extractor: object) -> Any | None:
    """
    Return the movie that an extractor gives some of the samples of; ``None`` if it is no such extractor.

    :raises ExtractorVersionError: If it is one, and it is not told of what.
    """
    return private(extractor, "_parent_imaging") if _is_a(extractor, SAMPLES_OF_A_MOVIE) else None


def channel_place_of(extractor: object) -> int | None:
    """
    Return the place of an extractor's channel among those of its recording; ``None`` if it does not count them.

    :raises ExtractorVersionError: If it is not known where roiextractors keeps it.
    """
    return private(extractor, "_channel_index") if _is_a(extractor, CHANNEL_BY_PLACE) else None


def _is_a(extractor: object, name: str) -> bool:
    return any(cls.__name__ == name for cls in _classes_of_roiextractors(extractor))


def arguments_of(extractor: object) -> Mapping[str, Any]:
    """Return the arguments that an extractor was made with, as far as it keeps them; segmentations need not."""
    return getattr(extractor, "_kwargs", None) or {}


def roi_ids_of_trace(extractor: Any, role: str) -> list[Any] | None:
    """
    Return which ROI each column of a trace is of; they may be in another order than the ROIs.

    :returns: ``None`` if the extractor keeps no such list for the role: its columns are then in the ROIs' order.
    :raises ExtractorVersionError: If it is not known where roiextractors keeps it.
    """
    for response in private(extractor, "_roi_responses") or ():
        if private(response, "response_type") == role:
            return list(private(response, "roi_ids"))
    return None


def traces_of(extractor: Any) -> dict[str, Any]:
    """
    Return all traces of a segmentation, by role: (time, ROIs) or (time, background components).

    Most extractors have them in ``get_traces_dict``; Inscopix' has them by ``get_traces`` only, with the axes the
    other way round. Those of the second kind are in the order of the ROIs.
    """
    found = {role: trace for role, trace in extractor.get_traces_dict().items() if holds_data(trace)}
    ids = list(extractor.get_roi_ids())
    if ids and _has_own_get_traces(extractor):
        for role in TRACE_ROLES:
            if role not in found:
                trace = _by_method(extractor, role, ids, found)
                found |= {} if trace is None else {role: trace}
    parent = parent_of(extractor)
    if found or parent is None:
        return found
    whole_ids = list(parent.get_roi_ids())
    samples = slice(getattr(extractor, "_start_sample", None), getattr(extractor, "_end_sample", None))
    columns = [whole_ids.index(roi_id) for roi_id in ids]
    return {role: trace[samples][:, columns] for role, trace in traces_of(parent).items()}


def holds_data(trace: Any) -> bool:
    """Tell whether there is a trace, and a value in it."""
    return trace is not None and 0 not in trace.shape


def _has_own_get_traces(extractor: Any) -> bool:
    method = getattr(type(extractor), "get_traces", None)
    return method is not None and method.__module__ not in BASE_MODULES


def _by_method(extractor: Any, role: str, ids: list[Any], found: Mapping[str, Any]) -> Array | None:
    """Return traces that only ``get_traces`` gives, (time, ROIs), unless they are others that were found."""
    one = _called(extractor, role, ids[:1])
    # Some give the same whatever the name.
    if one is None or not one.size or any(_are_same(one, np.asarray(trace[:, 0])) for trace in found.values()):
        return None
    traces = _called(extractor, role, ids)
    if traces is None:
        return None
    # What one ROI has shows which axis is that of the ROIs, even if there are as many of them as samples.
    has_rois_first = one.shape == (1, one.size) and one.size > 1
    return traces.T if has_rois_first else traces.reshape(one.size, len(ids))


def _called(extractor: Any, role: str, ids: list[Any]) -> Array | None:
    try:
        traces = extractor.get_traces(roi_ids=ids, name=role)
    except Exception as error:
        if is_passing(error):
            name = type(extractor).__name__
            raise unreadable(f"{name} cannot read its {role} traces: {error}. Try again.", error) from error
        return None  # it has no such traces
    return None if traces is None else np.asarray(traces)


def _are_same(one: Array, other: Array) -> bool:
    return one.size == other.size and np.array_equal(one.ravel(), other, equal_nan=one.dtype.kind == "f")


def properties_of(extractor: Any) -> list[str]:
    """
    Return the names of what a segmentation knows of each ROI.

    CaImAn's extractor calls all ROIs accepted if nobody evaluated them; that is no knowledge, and left out.
    """
    return [name for name in extractor.get_property_keys() if not _is_made_up(extractor, name)]


def property_values(extractor: Any, name: str) -> Array:
    """
    Return the values of a property in the order of the ROIs.

    ``extractor.get_property`` looks up each ROI in a list, which for many ROIs takes minutes; and of a selection
    of ROIs it gives the values of others, because the selection has the properties of all.
    """
    info = extractor.get_property_info(name)
    whole = parent_of(extractor)
    if whole is None or name not in whole.get_property_keys() or whole.get_property_info(name) is not info:
        values = np.asarray(info.data)
        return np.zeros_like(values) if _caiman_accepted_none(extractor, name) else values
    places = {roi_id: place for place, roi_id in enumerate(whole.get_roi_ids())}
    return property_values(whole, name)[[places[roi_id] for roi_id in extractor.get_roi_ids()]]


def _is_made_up(extractor: Any, name: str) -> bool:
    whole = whole_of(extractor)
    evaluated = _caiman_evaluation(whole, name)
    return (
        evaluated is not None
        and evaluated.shape == ()
        and extractor.get_property_info(name) is whole.get_property_info(name)
    )


def _caiman_accepted_none(extractor: Any, name: str) -> bool:
    evaluated = _caiman_evaluation(extractor, name)
    return evaluated is not None and evaluated.shape == (0,)


def _caiman_evaluation(extractor: Any, name: str) -> Any | None:
    """
    Return CaImAn's list of accepted components where its extractor takes no notice of it.

    :returns: Empty if none was accepted, without axes if none was evaluated; ``None`` if the property is what it
        seems to be.
    """
    if type(extractor).__name__ != "CaimanSegmentationExtractor" or name != CAIMAN_ACCEPTANCE:
        return None
    evaluated = private(extractor, "_estimates").get("idx_components", np.empty(()))
    is_ignored = evaluated.shape in ((), (0,)) and bool(np.all(extractor.get_property_info(name).data))
    return evaluated if is_ignored else None


def images_of(extractor: Any) -> dict[str, Array]:
    """
    Return the summary images that there are, by role, each (rows, columns[, planes or colours]).

    suite2p's correlation image is of what its registration left of the frame; roiextractors puts it at the wrong
    end of the rows, or leaves it small. An image with its colours first was read from an NWB file.
    """
    images = {role: np.asarray(image) for role, image in extractor.get_images_dict().items() if image is not None}
    images = {role: image for role, image in images.items() if image.size}
    shape = _frame_shape(extractor) if images else None
    if shape is None:
        return images
    whole = whole_of(extractor)
    if "correlation" in images and type(whole).__name__ == "Suite2pSegmentationExtractor":
        images["correlation"] = _suite2p_correlation(whole.options, shape)
    return {
        role: _on_frame(image, shape, f"{role} image of {type(extractor).__name__}")
        for role, image in images.items()
    }


def _frame_shape(extractor: Any) -> tuple[int, ...] | None:
    """Return (rows, columns) of the frame; ``None`` if the extractor cannot tell, as some without ROIs."""
    try:
        shape = tuple(map(int, extractor.get_frame_shape()))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None
    return shape if len(shape) == ROI_AXIS else None


def _on_frame(image: Array, shape: tuple[int, ...], name: str) -> Array:
    if image.ndim == ROI_AXIS + 1 and image.shape[:2] != shape and image.shape[1:] == shape:
        return np.moveaxis(image, 0, -1)
    if image.shape[:2] != shape:
        remark(
            f"The {name} is {image.shape}, but the frame of its ROIs is {shape} (rows, columns): where they are "
            "in it is not known."
        )
    return image


def _suite2p_correlation(options: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    image = np.asarray(options["Vcorr"])
    if image.shape == shape:
        return image
    rows, columns = (slice(*map(operator.index, options[axis][:2])) for axis in ("yrange", "xrange"))
    whole = np.zeros(shape, image.dtype)
    if whole[rows, columns].shape != image.shape:
        return image
    whole[rows, columns] = image
    return whole


def dense_stack(extractor: Any, ids: Sequence[Any]) -> tuple[Any, int] | None:
    """
    Return an extractor's own array of dense masks, (rows, columns, ROIs[, planes]), and where these ROIs begin.

    Its methods make a copy for each ROI, which takes fifty times as long as going through the array; so it is
    used where nothing stands between the two, and the ROIs are in its order.
    """
    masks = private(extractor, "_roi_masks")
    if masks is None or private(masks, "mask_tpe") != "nwb-image_mask" or not ids:
        return None
    methods = ("get_roi_image_masks", "get_roi_pixel_masks")
    if any(getattr(type(extractor), name).__qualname__ != f"SegmentationExtractor.{name}" for name in methods):
        return None
    places = [private(masks, "roi_id_map").get(roi_id) for roi_id in ids]
    if places[0] is None or places != list(range(places[0], places[0] + len(ids))):
        return None
    return private(masks, "data"), places[0]


def only_image(masks: Any) -> Array:
    """
    Return the only one of dense masks, (rows, columns[, planes]).

    Of volumes, roiextractors has the ROIs between the columns and the planes.
    """
    masks = np.asarray(masks)
    axis = ROI_AXIS if masks.shape[ROI_AXIS] == 1 else -1
    image: Array = np.take(masks, 0, axis=axis)
    return image
