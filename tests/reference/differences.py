"""
Where the two writers differ, and which row of docs/reference-writer.md says so.

Whatever is not listed here must be the same, and what is listed here must be seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NOT_THERE = "(not there)"


@dataclass(frozen=True)
class Difference:
    """
    A kind of difference.

    :param row: First cell of the row of the document that says so, with its reason.
    :param where: Regular expression of ``behaviour:location``; the location of an error is ``error``.
    :param theirs: Regular expression of the reference's value, as text.
    :param ours: The same of ours.
    """

    row: str
    where: str
    theirs: str = ".*"
    ours: str = ".*"


def changes(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Go through what differs: location, the reference's value, ours."""
    if "error" in theirs or "error" in ours:
        if not _is_such_an_error(ours.get("error"), theirs.get("error")):
            yield "error", theirs.get("raised", "none"), ours.get("raised", "none")
        return
    theirs, ours = theirs["values"], ours["values"]
    for location in sorted(set(theirs) | set(ours)):
        values = theirs.get(location, NOT_THERE), ours.get(location, NOT_THERE)
        if values[0] != values[1]:
            yield location, *values


def _is_such_an_error(ours: list[str] | None, theirs: list[str] | None) -> bool:
    """Tell whether who catches the reference's error catches ours, which is one that we raise on purpose."""
    return ours is not None and theirs is not None and "OphysError" in ours and theirs[0] in ours


# Behaviours in which the dict form describes cells under the key "cells", but not their traces or images.
KEYED = (
    "^(acceptance|properties|names|cells_(whose|without|beside|with_stamps)|traces_of_zeros|default_configuration"
    "|dff_described|named_traces)"
)
NAMES_OF_TRACES = "names of traces and images that are not described"


@dataclass(frozen=True)
class Renamed:
    """What has no name in the metadata: as :class:`Difference`, with the names in place of the values."""

    row: str
    theirs: str
    ours: str
    where: str = ""


RENAMED = [
    Renamed("device that is not described", "/PlaceholderMicroscope", "/Microscope"),
    Renamed(
        "name of a series that is not described", "/MicroscopySeries", "/TwoPhotonSeries", "movie_of_which_nothing"
    ),
    Renamed(NAMES_OF_TRACES, "/mean_image", "/mean", "cells_of_which_nothing"),
    Renamed(NAMES_OF_TRACES, "/correlation_image", "/correlation", "cells_of_which_nothing"),
    Renamed(NAMES_OF_TRACES, "/mean_image", "/mean_cells", KEYED),
    Renamed(NAMES_OF_TRACES, "/correlation_image", "/correlation_cells", KEYED),
    Renamed(NAMES_OF_TRACES, "/(RoiResponseSeries|Neuropil|Deconvolved)", r"/\1_cells", KEYED),
]


def renamed(behaviour: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """Return the reference's outcome with our names of what has no name in the metadata."""
    text = json.dumps(outcome)
    for each in RENAMED:
        if re.search(each.where, behaviour):
            text = re.sub(rf'{each.theirs}(?=[/."])', each.ours, text)
    return json.loads(text)


ABSENT = r"^\(not there\)$"
WRONG = "kinds of errors"
DIFFERENCES = [
    Difference("`dimension`", r"/Movie\.dimension$|/TwoPhotonSeries\.dimension$", r"\[5, 7\]", r"\[7, 5\]"),
    Difference("`comments` of a series", r"\.comments$", "^no comments$", "^Read with .* of roiextractors"),
    Difference("descriptions that are not given", r"\.description$", r"^(?!\(not there)", r"^(?!\(not there)"),
    Difference(
        "series of the list form that names no plane",
        "^movie_of_which_the_list_form_says_little:(/ImagingPlane|/V1|/Scope|/Microscope|/Movie.imaging_plane)",
    ),
    Difference("required field missing", "^movie_without_what_nwb_requires.*:error$", "^none$", "is missing"),
    Difference(
        "`manufacturer`, `model_name`, `model_number` of a device",
        r"^device_with_its_maker:/Scope(\.model|\.manufacturer)",
    ),
    Difference("float16 and bool movies", r"^movie_of_numbers_float16:/Movie\.data$", "float16", "float32"),
    Difference("float16 and bool movies", "^movie_of_numbers_bool:error$", "BuildError", "^none$"),
    Difference("regular timestamps", r"\.rate$", r"^20\.000000000000007$|^19\.9999854545", r"^20\.0$"),
    Difference(
        "`parent_container`", "^movie_with_a_wrong_parent_container:error$", "^none$", "ConfigurationError"
    ),
    Difference(WRONG, ":error$", r"\n(KeyError|AssertionError|TypeError): ", r"\.(Configuration|Metadata)Error: "),
    Difference(WRONG, "^new_file_without_a_start:error$", "ValidationError: ", "MetadataError: "),
    Difference("provenance", r"/\.(source_script|source_script_file_name)$", "", ABSENT),
    Difference("provenance", r"/\.was_generated_by$", ABSENT),
    Difference("dF/F", r"/Fluorescence/(DfOverF|DeltaF)[./]", "", ABSENT),
    Difference("dF/F", r"/ophys/DfOverF[./]", ABSENT),
    Difference("`rois` of several traces", r"/Fluorescence/\w+\.rois$", "^-> .*/rois$", "^-> .*/rois$"),
    Difference("`rois` of several traces", r"/Fluorescence/\w+/rois\.\w+$", ABSENT),
    Difference("`include_roi_centroids`", r"/ImageSegmentation/\w+\.(colnames|columns)$", "", "ROICentroids"),
    Difference("`include_roi_centroids`", r"/ROICentroids\.\w+$", ABSENT),
    Difference("`mask_type`", r"^masks_in_the_list_form_pixel:.*/image_mask\.", "", ABSENT),
    Difference("`mask_type`", r"^masks_in_the_list_form_pixel:.*/pixel_mask(_index)?\.", ABSENT),
    Difference("`mask_type`", "^masks_in_the_list_form_other:error$", "^none$", "mask_type is 'other'"),
    Difference("`mask_type`", r"^cells_whose_masks_are_pixels:.*/pixel_mask(_index)?\.", "", ABSENT),
    Difference("`mask_type`", r"^cells_whose_masks_are_pixels:.*/image_mask\.", ABSENT),
    Difference(
        "masks of a plane as voxels", "^masks_in_the_list_form_voxel:error$", "^none$", "mask_type is 'voxel'"
    ),
    Difference("acceptance columns", r"/(Accepted|Rejected)\.\w+$", ABSENT),
    Difference("datasets", "^default_configuration_.*(/rois/data|/ROICentroids/data|/id/data)$", ABSENT),
    Difference("datasets", "^default_configuration_hdf5:.*/roi_name/data$", r"^\[3\]$", "^None$"),
    Difference("traces are named, and there are none", "^named_traces.*:error$", "no trace data", "^none$"),
]
