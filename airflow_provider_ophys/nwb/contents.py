"""What an NWB file holds for a report: movies, segmentations and who recorded them; opened, not yet read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from hdmf.build.errors import ConstructError
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import Images
from pynwb.ophys import OnePhotonSeries, PlaneSegmentation, RoiResponseSeries, TwoPhotonSeries

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.nwb.existing import RECORD_ATTRIBUTE, backend_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOVIE_AXES = (3, 4)

# Columns in which writers put what was accepted, and whether they mean the opposite.
ACCEPTANCE_COLUMNS = {
    "Accepted": False,
    "accepted": False,
    "is_accepted": False,
    "iscell": False,
    "is_cell": False,
    "Rejected": True,
    "rejected": True,
}


@dataclass(frozen=True)
class Timing:
    """
    When the samples of a series were taken.

    :param num_samples: How many.
    :param rate: Hertz; ``None`` if there are timestamps.
    :param starting_time: Seconds of the first sample, for a rate.
    :param timestamps: Array-like on disk, seconds; ``None`` if there is a rate.
    """

    num_samples: int
    rate: float | None
    starting_time: float
    timestamps: Any

    def at(self, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times, in seconds, of samples in ascending order."""
        if self.timestamps is None:
            return self.starting_time + samples / (self.rate or 1.0)
        first, last = int(samples[0]), int(samples[-1])
        return np.asarray(self.timestamps[first : last + 1], dtype=np.float64)[samples - first]


@dataclass(frozen=True)
class Movie:
    """
    A photon series.

    :param path: In the file, for example ``acquisition/TwoPhotonSeries``.
    :param data: Array-like on disk: (time, columns, rows[, planes]).
    :param unit: Of the pixel values.
    :param imaging_plane: The pynwb object.
    :param record: What the conversion that wrote it noted; empty if another software wrote it.
    :param object_id: NWB's, which tells it from every other series.
    """

    path: str
    kind: str
    data: Any
    unit: str
    timing: Timing
    imaging_plane: Any
    record: Mapping[str, Any]
    object_id: str

    @property
    def name(self) -> str:
        """Its last name."""
        return self.path.rpartition("/")[2]

    @property
    def micrometres_per_pixel(self) -> float | None:
        """Across a pixel, by the grid spacing; ``None`` if the file does not say, or pixels are not square."""
        spacing = self.imaging_plane.grid_spacing
        scale = MICROMETRES.get(str(self.imaging_plane.grid_spacing_unit).lower())
        if spacing is None or scale is None:
            return None
        across, down = (float(value) * scale for value in np.asarray(spacing, dtype=float).ravel()[:2])
        return across if across > 0 and np.isclose(across, down, rtol=0.05) else None


# NWB's units of length, in micrometres.
MICROMETRES = {"meters": 1e6, "meter": 1e6, "m": 1e6, "millimeters": 1e3, "mm": 1e3, "micrometers": 1.0, "um": 1.0}


@dataclass(frozen=True)
class Traces:
    """
    Traces of ROIs.

    :param data: Array-like on disk: (time, ROIs).
    :param rows: Row in the table of each column of ``data``.
    """

    name: str
    container: str
    data: Any
    unit: str
    timing: Timing
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Segmentation:
    """
    A table of ROIs.

    :param path: In the file.
    :param num_rois: How many.
    :param names: Of the ROIs, or their ids.
    :param accepted: Of each ROI; ``None`` if the file does not say.
    :param mask_type: ``"image"``, ``"pixel"``, ``"voxel"``, or ``None``.
    :param masks: Array-like on disk: dense (ROIs, columns, rows[, planes]), or records with x, y[, z], weight.
    :param mask_ends: For records: where those of each ROI end.
    :param traces: All of its traces.
    :param imaging_plane: The pynwb object.
    :param record: As for a movie.
    """

    path: str
    num_rois: int
    names: Any
    accepted: NDArray[np.bool_] | None
    mask_type: str | None
    masks: Any
    mask_ends: NDArray[np.int64] | None
    traces: tuple[Traces, ...]
    imaging_plane: Any
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its last name."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Contents:
    """
    What is in a file.

    :param nwbfile: The pynwb object.
    :param movies: Those of the acquisition first.
    :param left_out: Series whose pixels are not in the file, by path, and why.
    :param images: Summary images by name, array-like on disk: (columns, rows).
    """

    nwbfile: NWBFile
    movies: tuple[Movie, ...]
    left_out: Mapping[str, str]
    segmentations: tuple[Segmentation, ...]
    images: Mapping[str, Any]


@contextmanager
def open_contents(source: Any) -> Iterator[Contents]:
    """
    Open an NWB file and look what is in it; arrays are read by whoever asks for them, while it is open.

    :param source: The path of an HDF5 file or Zarr store, a binary file object of the former, or a
        ``zarr.abc.store.Store`` of the latter.
    :raises SourceNotFoundError: If there is nothing at the path.
    :raises SourceDataError: If it is neither HDF5 nor Zarr, or no NWB file.
    """
    if isinstance(source, Path):
        is_zarr, opened = backend_of(source) == "zarr", str(source)
    else:
        is_zarr, opened = not hasattr(source, "readinto"), source
    if is_zarr:
        from hdmf_zarr import NWBZarrIO

        with NWBZarrIO(opened, "r") as io:
            yield _looked_at(io, source)
        return
    with h5py.File(opened, "r") as file, NWBHDF5IO(file=file, mode="r") as io:
        yield _looked_at(io, source)


def _looked_at(io: Any, source: Any) -> Contents:
    try:
        return _contents(io.read())
    except (KeyError, TypeError, ValueError, AttributeError, ConstructError) as error:
        # What pynwb and hdmf raise for files that are no NWB files.
        raise SourceDataError(
            f"{source} cannot be read as an NWB file: {type(error).__name__}: {error}. Check that it is one."
        ) from error


def _contents(nwbfile: NWBFile) -> Contents:
    objects = list(nwbfile.objects.values())
    series = [found for found in objects if isinstance(found, (OnePhotonSeries, TwoPhotonSeries))]
    series.sort(key=lambda found: (not _path(found).startswith("acquisition"), _path(found)))
    responses = [found for found in objects if isinstance(found, RoiResponseSeries)]
    tables = [found for found in objects if isinstance(found, PlaneSegmentation)]
    inside = [found for found in series if not found.external_file and len(found.data.shape) in MOVIE_AXES]
    return Contents(
        nwbfile=nwbfile,
        movies=tuple(_movie(found) for found in inside if found.data.shape[0]),
        left_out={
            _path(found): "its pixels are in other files" if found.external_file else "it has no pixels"
            for found in series
            if found not in inside or not found.data.shape[0]
        },
        segmentations=tuple(_segmentation(table, responses) for table in sorted(tables, key=_path) if len(table)),
        images={
            image.name: image.data
            for container in objects
            if isinstance(container, Images)
            for image in container.images.values()
        },
    )


def _path(container: Any) -> str:
    names: list[str] = []
    while not isinstance(container, NWBFile):
        names.append(container.name)
        child, container = container, container.parent
    section = "acquisition" if container.acquisition.get(child.name) is child else "processing"
    return "/".join([section, *reversed(names)])


def _timing(series: Any, num_samples: int) -> Timing:
    if series.timestamps is not None:
        return Timing(num_samples, None, 0.0, series.timestamps)
    return Timing(num_samples, float(series.rate or np.nan), float(series.starting_time or 0.0), None)


def _movie(series: Any) -> Movie:
    return Movie(
        path=_path(series),
        kind=series.neurodata_type,
        data=series.data,
        unit=series.unit,
        timing=_timing(series, series.data.shape[0]),
        imaging_plane=series.imaging_plane,
        record=_record(series.data),
        object_id=series.object_id,
    )


def _record(dataset: Any) -> dict[str, Any]:
    """Read what the conversion left on the dataset's group."""
    if isinstance(dataset, h5py.Dataset):
        attributes = dataset.parent.attrs
    else:
        import zarr

        path = dataset.path.rpartition("/")[0]
        attributes = zarr.open_group(dataset.store, path=path, mode="r").attrs
    text = attributes.get(RECORD_ATTRIBUTE)
    return json.loads(str(text)) if text else {}


def _segmentation(table: Any, responses: list[Any]) -> Segmentation:
    names = table["roi_name"].data if "roi_name" in table.colnames else table.id.data
    mask_type = next((kind for kind in ("pixel", "voxel", "image") if f"{kind}_mask" in table.colnames), None)
    column = table[f"{mask_type}_mask"] if mask_type else None
    is_sparse = mask_type in ("pixel", "voxel")
    return Segmentation(
        path=_path(table),
        num_rois=len(table),
        names=names,
        accepted=_accepted(table),
        mask_type=mask_type,
        masks=None if column is None else column.target.data if is_sparse else column.data,
        mask_ends=np.asarray(column.data[:], dtype=np.int64) if is_sparse and column is not None else None,
        traces=tuple(_traces(series) for series in responses if series.rois.table is table),
        imaging_plane=table.imaging_plane,
        record=_record(table.id.data),
    )


def _accepted(table: Any) -> NDArray[np.bool_] | None:
    for name, means_opposite in ACCEPTANCE_COLUMNS.items():
        if name in table.colnames:
            values = np.asarray(table[name].data[:])
            # suite2p's own NWB files have the classifier's probability in a second column.
            values = (values if values.ndim == 1 else values[:, 0]).astype(bool)
            return ~values if means_opposite else values
    return None


def _traces(series: Any) -> Traces:
    return Traces(
        name=series.name,
        container=series.parent.name,
        data=series.data,
        unit=series.unit,
        timing=_timing(series, series.data.shape[0]),
        rows=np.asarray(series.rois.data[:], dtype=np.int64),
    )
