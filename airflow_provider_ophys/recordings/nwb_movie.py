"""Movies in NWB files: a OnePhotonSeries or TwoPhotonSeries of the acquisition, described by the same file."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.metadata import UNKNOWN_WAVELENGTH
from airflow_provider_ophys.models.metadata_sections import UNKNOWN
from airflow_provider_ophys.models.recording import Contents, HeaderMetadata, Movie, PhotonSeriesType
from airflow_provider_ophys.recordings.hdf5_movie import Hdf5File
from airflow_provider_ophys.recordings.hdf5_references import member, members, open_hdf5, referenced_files
from airflow_provider_ophys.recordings.headers import Fact, Headers, later, storable
from airflow_provider_ophys.recordings.recording import files_below
from airflow_provider_ophys.recordings.zarr_links import require_no_links_out

DEFAULT_SERIES = "TwoPhotonSeries"
ACQUISITION = "acquisition"
SERIES_TYPES = ("TwoPhotonSeries", "OnePhotonSeries")
NUM_AXES = (3, 4)  # time, columns, rows; planes
MOST_STAMPS, LONGEST_LIST = 20_000_000, 1_000
# A sample that is said to be later than a year (s) after the start has another reference, such as 1970.
LONGEST_SESSION = 3.2e7

SESSION_TEXTS = ("session_start_time", "session_description")
GENERAL_TEXTS = (
    "session_id",
    "experimenter",
    "experiment_description",
    "institution",
    "lab",
    "keywords",
    "notes",
    "pharmacology",
    "protocol",
    "related_publications",
    "slices",
    "data_collection",
    "surgery",
    "virus",
)
SUBJECT_TEXTS = (
    "subject_id",
    "species",
    "sex",
    "age",
    "date_of_birth",
    "description",
    "genotype",
    "strain",
    "weight",
)
PLANE_FACTS = (
    "description",
    "excitation_lambda",
    "imaging_rate",
    "indicator",
    "location",
    "reference_frame",
    "grid_spacing",
    "origin_coords",
)
SERIES_FACTS = (
    "description",
    "pmt_gain",
    "scan_line_rate",
    "exposure_time",
    "binning",
    "power",
    "intensity",
    "field_of_view",
)
DATA_FACTS = ("unit", "conversion", "offset", "resolution")
LISTS = ("experimenter", "keywords", "related_publications", "grid_spacing", "origin_coords", "field_of_view")


class NwbRecording(Hdf5File):
    """What ``NwbImagingExtractor`` reads. Such files are not found by themselves: they may be results."""

    @cached_property
    def files(self) -> list[Path]:
        """The file, and those in which its content lies; of a Zarr store, all that is in it."""
        if not self.file.is_dir():
            return [self.file, *referenced_files(self.file)]
        found = files_below(self.file)
        require_no_links_out(self.file)
        return found

    def check(self) -> None:
        """
        Check that the series is there, with its samples in the file.

        :raises SourceDataError: If not; names those that are. Or if the file refers to what lies outside.
        """
        if self.file.is_dir():
            _ = self.files
            return
        name = self.chosen
        if name not in self.series:
            known = ", ".join(map(repr, self.series)) or "none"
            raise SourceDataError(
                f"{self.file} has no series {name!r} of photons in its acquisition, but {known[:500]}. Name one "
                "in optical_series_name."
            )
        if len(self.series[name]["shape"]) not in NUM_AXES:
            raise SourceDataError(
                f"{self.file}: the data of {name!r} has the shape {self.series[name]['shape']}, not (time, "
                "columns, rows[, planes]). Movies in external files are read by the extractor of their format."
            )

    def contents(self) -> Contents | None:
        """Tell of the series that the arguments choose, or of all; ``None`` of a Zarr store."""
        if self.file.is_dir():
            return None
        chosen = "optical_series_name" in self.arguments
        if chosen:
            self.check()
        names = [self.chosen] if chosen else sorted(self.series, key=lambda name: name != DEFAULT_SERIES)
        movies = [
            self._movie(name, self.series[name]) for name in names if len(self.series[name]["shape"]) in NUM_AXES
        ]
        if not movies:
            raise SourceDataError(
                f"{self.file} has no movies in its acquisition. Check that it is the right file."
            )
        kind = self.series[names[0]]["type"]
        return Contents(movies=movies, photon_series_type=cast("PhotonSeriesType", kind))

    def _movie(self, name: str, series: dict[str, Any]) -> Movie:
        samples, columns, rows, *planes = series["shape"]
        first = series["starting_time"]
        start = later(self.start, first) if first is not None and abs(first) < LONGEST_SESSION else None
        return Movie(
            extractor_kwargs=dict(self.arguments) | {"optical_series_name": name},
            num_samples=samples,
            sample_shape=(rows, columns, *planes),
            dtype=series["dtype"],
            rate=series["rate"],
            start=start,
            duration=samples / series["rate"] if series["rate"] else None,
        )

    def metadata(self) -> HeaderMetadata:
        """Tell what the file says of the session, the subject, the series, its plane and its device."""
        headers = Headers()
        if self.file.is_dir():
            return headers.result()
        _ = self.files
        with open_hdf5(self.file, refers=self.refers) as opened:
            self._add_session(headers, opened)
            if self.chosen in self.series:
                self._add_series(headers, opened, f"/{ACQUISITION}/{self.chosen}")
        return headers.result()

    def _add_session(self, headers: Headers, opened: Any) -> None:
        file = self.file.name
        for section, group, names in (
            ("NWBFile", "/", SESSION_TEXTS),
            ("NWBFile", "/general", GENERAL_TEXTS),
            ("Subject", "/general/subject", SUBJECT_TEXTS),
        ):
            for name in names:
                headers.add(section, name, _fact(opened, f"{group}/{name}", name), f"{file}: {group}/{name}")

    def _add_series(self, headers: Headers, opened: Any, place: str) -> None:
        file = self.file.name
        for name in SERIES_FACTS:
            headers.add("series", name, _fact(opened, f"{place}/{name}", name), f"{file}: {place}/{name}")
        for name in DATA_FACTS:
            headers.add(
                "series", name, _fact(opened, f"{place}/data/{name}", name), f"{file}: {place}/data.{name}"
            )
        self._add_plane(headers, opened, f"{place}/imaging_plane")

    def _add_plane(self, headers: Headers, opened: Any, plane: str) -> None:
        file = self.file.name
        headers.add("plane", "name", _name_of(opened, plane), f"{file}: {plane}")
        for name in PLANE_FACTS:
            headers.add("plane", name, _fact(opened, f"{plane}/{name}", name), f"{file}: {plane}/{name}")
        for name in ("grid_spacing", "origin_coords"):
            unit = _fact(opened, f"{plane}/{name}/unit", "unit")
            headers.add("plane", f"{name}_unit", unit, f"{file}: {plane}/{name}.unit")
        channels = [_channel(opened, f"{plane}/{name}") for name in _channel_names(opened, plane)]
        headers.add("plane", "optical_channel", cast("Fact", channels or None), f"{file}: {plane}")
        device = f"{plane}/device"
        headers.add("device", "name", _name_of(opened, device), f"{file}: {device}")
        for name in ("description", "manufacturer", "serial_number"):
            headers.add("device", name, _fact(opened, f"{device}/{name}", name), f"{file}: {device}.{name}")

    @cached_property
    def chosen(self) -> str:
        """Name of the series that the extractor reads."""
        name = self.arguments.get("optical_series_name", DEFAULT_SERIES)
        if name is None:
            if len(self.series) != 1:
                known = ", ".join(map(repr, self.series)) or "none"
                raise SourceDataError(f"{self.file} has {known[:500]}. Choose one with optical_series_name.")
            return next(iter(self.series))
        return str(name)

    @cached_property
    def start(self) -> datetime | None:
        """The time to which the stamps of the file refer."""
        _ = self.files
        with open_hdf5(self.file, refers=self.refers) as opened:
            text = _fact(opened, "/timestamps_reference_time", "") or _fact(opened, "/session_start_time", "")
        try:
            return datetime.fromisoformat(str(text)) if text else None
        except ValueError:
            return None

    @cached_property
    def series(self) -> dict[str, dict[str, Any]]:
        """Type, shape, pixels' type, rate and starting time of each series in the acquisition, by name."""
        _, found = self.files, {}
        with open_hdf5(self.file, refers=self.refers) as opened:
            for name, group in members(member(opened, ACQUISITION)):
                kind = _plain(member(getattr(group, "attrs", {}), "neurodata_type"))
                if kind in SERIES_TYPES:
                    data = member(group, "data")
                    found[name] = {
                        "type": kind,
                        "shape": tuple(getattr(data, "shape", None) or ()),
                        "dtype": data.dtype.name if hasattr(data, "dtype") else None,
                        **_timing(group),
                    }
        return found


def _timing(group: Any) -> dict[str, float | None]:
    """Return rate (Hz) and time of the first sample (s); the median rate, if each sample has its time."""
    stamps, start = member(group, "timestamps"), member(group, "starting_time")
    rate = None if start is None else _plain(member(start.attrs, "rate"))
    first = None if start is None else _plain(start[()])
    if stamps is not None and len(stamps.shape or ()) == 1 and 1 < stamps.shape[0] <= MOST_STAMPS:
        times = np.asarray(stamps[:], dtype=np.float64)
        interval = float(np.median(np.diff(times)))
        rate, first = (1 / interval if interval > 0 else None), float(times[0])
    rate, first = (value if isinstance(value, (int, float)) else None for value in (rate, first))
    return {"rate": rate if rate is not None and 0 < rate < np.inf else None, "starting_time": first}


def _fact(opened: Any, path: str, name: str) -> Fact:
    """Return a text, number, or list of these: a dataset, or else an attribute of what it would be in."""
    item = member(opened, path)
    if item is None:
        above, _, attribute = path.rpartition("/")
        owner = member(opened, above or "/")
        value = member(owner.attrs, attribute) if owner is not None else None
    elif getattr(item, "shape", None) is not None and item.size <= LONGEST_LIST:
        value = item[()]
    else:
        value = None
    fact = _plain(value)
    return [fact] if name in LISTS and isinstance(fact, str) else cast("Fact", fact)


def _plain(value: Any) -> Any:
    """Return what h5py read as Python has it; ``None`` for all that is no text, number, or list of these."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray):
        plain = [_plain(item) for item in value.reshape(-1)[:LONGEST_LIST]]
        return plain if value.ndim == 1 and all(isinstance(item, (str, int, float)) for item in plain) else None
    return value if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None


def _name_of(opened: Any, path: str) -> str | None:
    """Return the name of what is linked: the last part of its own path."""
    if member(opened, path) is None:
        return None
    target = getattr(opened.get(path, getlink=True), "path", None)
    return storable(target.rstrip("/").rpartition("/")[2]) if target else None


def _channel_names(opened: Any, plane: str) -> list[str]:
    return [
        name
        for name, item in members(member(opened, plane))
        if _plain(member(getattr(item, "attrs", {}), "neurodata_type")) == "OpticalChannel"
    ]


def _channel(opened: Any, path: str) -> dict[str, Any]:
    wavelength = _fact(opened, f"{path}/emission_lambda", "")
    is_known = isinstance(wavelength, (int, float)) and np.isfinite(wavelength)
    return {
        "name": storable(path.rpartition("/")[2]),
        "description": str(_fact(opened, f"{path}/description", "") or UNKNOWN),
        "emission_lambda": wavelength if is_known else UNKNOWN_WAVELENGTH,
    }
