"""What an extractor knows of each ROI, as columns of the table of ROIs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from hdmf.common import VectorData, VectorIndex

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.extractor_internals import properties_of, property_values
from airflow_provider_ophys.models.metadata_sections import LONGEST_NAME, RESERVED_NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

# Where roiextractors has centroids that a file or a program gave: row before column.
CENTROIDS_PROPERTY = "roi_centroids"

# How extractors name what they know about the acceptance of an ROI.
ACCEPTED_PROPERTIES = ("is_accepted", "iscell", "accepted")
REJECTED_PROPERTIES = ("is_rejected", "rejected")
STATUS_PROPERTY = "cell_status"  # Inscopix: "accepted", "rejected" or "undecided"

# What a table of ROIs has itself.
RESERVED_COLUMNS = RESERVED_NAMES | {
    *("id", "colnames", "imaging_plane", "reference_images", "meanings_tables"),
    *("image_mask", "pixel_mask", "pixel_mask_index", "voxel_mask", "voxel_mask_index"),
}

# Properties that answer yes or no; some programs, such as suite2p, have them as numbers.
YES_OR_NO = re.compile(r"(is|has)_|iscell$|accepted$|rejected$")


def property_columns(extractor: Any, taken: Collection[str]) -> list[VectorData]:
    """
    Make a column of every property, booleans as booleans.

    :param extractor: A roiextractors ``SegmentationExtractor``.
    :param taken: Names that the table has already.
    :raises SourceDataError: If a property cannot be a column.
    """
    columns: list[VectorData] = []
    for name in properties_of(extractor):
        if name == CENTROIDS_PROPERTY:
            continue  # they are the centroids of the table, x before y
        _check_name(name, taken, type(extractor).__name__)
        values = property_values(extractor, name)
        if len(values) != int(extractor.get_num_rois()):
            raise SourceDataError(
                f"The property {name!r} of {type(extractor).__name__} has {len(values)} values for "
                f"{extractor.get_num_rois()} ROIs. Check that the segmentation's files belong together."
            )
        description = extractor.get_property_info(name).description or f"{name} of each ROI."
        columns += _column(name, description, values)
    return columns


def _check_name(name: str, taken: Collection[str], source: str) -> None:
    """
    Check that a property can be a column.

    :raises SourceDataError: If NWB or the storage has the name for something else, or cannot have it.
    """
    if name in taken or name in RESERVED_COLUMNS:
        reason = "a table has that name for something else"
    elif not name.strip(". ") or re.search(r"[/\\:]", name) or not name.isprintable():
        reason = "a column's name may not be empty, '.' or '..', nor hold '/', '\\', ':' or what cannot be printed"
    elif len(name.encode()) > LONGEST_NAME:
        reason = f"a column's name may have {LONGEST_NAME} bytes at most"
    else:
        return
    raise SourceDataError(
        f"{source} has an ROI property {name!r}, which cannot be a column of the table of ROIs: {reason}. Give it "
        "another name in the segmentation, or leave it out there."
    )


def _column(name: str, description: str, values: Array) -> list[VectorData]:
    if values.dtype.kind in "OSUTmM" and _holds_lists(values):
        rows = [np.atleast_1d(row) for row in values]
        column = VectorData(name=name, description=description, data=_storable(name, np.concatenate(rows)))
        ends = np.cumsum([len(row) for row in rows])
        return [column, VectorIndex(name=f"{name}_index", data=ends, target=column)]
    return [VectorData(name=name, description=description, data=_storable(name, values))]


def _holds_lists(values: Array) -> bool:
    return values.dtype.kind == "O" and any(isinstance(value, (list, tuple, np.ndarray)) for value in values)


def _storable(name: str, values: Array) -> Any:
    """Return values as HDF5 and Zarr can store them: texts as ``str``, yes and no as booleans."""
    if values.dtype.kind == "O":
        values = _without_objects(values)
    if values.dtype.kind in "SmM":
        values = values.astype(str)
    if values.dtype.kind in "OUT":
        return [_text(value) for value in values] if values.ndim == 1 else values.astype(str).tolist()
    if values.dtype.kind == "c":
        raise SourceDataError(f"The ROI property {name!r} has complex numbers, which NWB does not have.")
    if values.dtype.kind in "iuf" and YES_OR_NO.match(name) and np.isin(values, (0, 1)).all():
        return values.astype(bool)
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("=")))


def _without_objects(values: Array) -> Array:
    """Return objects that are all numbers, or all booleans, as such; texts and mixtures stay."""
    as_numbers = np.array(values.tolist())
    return as_numbers if as_numbers.dtype.kind in "biuf" and as_numbers.shape == values.shape else values


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def acceptance_columns(extractor: Any) -> list[VectorData]:
    """
    Make the columns ``Accepted`` and ``Rejected``, if the extractor knows of either.

    Where it knows of one only, the other is its opposite; where it knows of both, an ROI may be neither.
    """
    known = properties_of(extractor)
    accepted = _yes(extractor, known, ACCEPTED_PROPERTIES)
    rejected = _yes(extractor, known, REJECTED_PROPERTIES)
    if accepted is None and rejected is None and STATUS_PROPERTY in known:
        status = property_values(extractor, STATUS_PROPERTY).astype(str)
        accepted, rejected = status == "accepted", status == "rejected"
    if accepted is None and rejected is None:
        return []
    answers: Mapping[str, tuple[Array, str]] = {
        "Accepted": (_or_opposite(accepted, rejected), "accepted"),
        "Rejected": (_or_opposite(rejected, accepted), "rejected"),
    }
    return [
        VectorData(
            name=name, description=f"Whether the segmentation software or its user {verb} the ROI.", data=data
        )
        for name, (data, verb) in answers.items()
    ]


def _yes(extractor: Any, known: Collection[str], names: Iterable[str]) -> Array | None:
    name = next((name for name in names if name in known), None)
    return None if name is None else property_values(extractor, name).astype(bool)


def _or_opposite(answer: Array | None, other: Array | None) -> Array:
    if answer is not None:
        return answer
    assert other is not None  # noqa: S101 - for the type checker: one of the two is known
    return ~other


def given_centroids(extractor: Any) -> Array | None:
    """Return the centroids that the extractor was given, (ROIs, 2 or 3): x, y[, z]; ``None`` if it has none."""
    if CENTROIDS_PROPERTY not in properties_of(extractor):
        return None
    values = np.asarray(property_values(extractor, CENTROIDS_PROPERTY), dtype=np.float64)
    swapped: Array = values[:, [1, 0, *range(2, values.shape[1])]]
    return swapped
