"""Extractors that read right what roiextractors' own do not: subclasses of its classes, made as one is opened."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from copy import copy
from functools import partial
from importlib.metadata import version
from inspect import isclass
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import ConfigurationError, ExtractorVersionError
from airflow_provider_ophys.extractor_internals import private
from airflow_provider_ophys.recordings import Recording
from airflow_provider_ophys.recordings.hdf5_movie import Hdf5File
from airflow_provider_ophys.recordings.hdf5_stream import Hdf5Stream
from airflow_provider_ophys.recordings.mapped_files import read_mapped
from airflow_provider_ophys.recordings.minian import MinianRecording
from airflow_provider_ophys.recordings.sbx import SbxRecording
from airflow_provider_ophys.recordings.stuck_processes import end_if_stuck
from airflow_provider_ophys.recordings.suite2p import (
    CLASSES,
    OPTIONS,
    RED_CELLS,
    STATISTICS,
    Suite2pRecording,
)

SCANIMAGE, CHANNEL_SAVE = "ScanImageImagingExtractor", "SI.hChannels.channelSave"
MULTI_TIFF = "MultiTIFFMultiPageExtractor"


def mended(extractor_class: type, recording: Recording) -> type:
    """Return a class that reads right what roiextractors' own does not."""
    if isinstance(recording, Suite2pRecording):
        return _given_arrays(extractor_class, recording)
    if isinstance(recording, MinianRecording):
        return _opening_stores(extractor_class)
    if isinstance(recording, SbxRecording):
        return _reading_scanbox(extractor_class)
    if isinstance(recording, Hdf5File) and not recording.file.is_dir():
        if not recording.refers:
            return _reading_hdf5_by_stream(extractor_class)
        end_if_stuck()
    if extractor_class.__name__ == SCANIMAGE:
        return _scanimage_of_any_length(extractor_class)
    return _multi_tiff_by_page(extractor_class) if extractor_class.__name__ == MULTI_TIFF else extractor_class


def takes_plane(extractor_class: type) -> bool:
    """Tell whether the planes of an extractor's volumes can be read by themselves, by an argument of ours."""
    return any(cls.__name__ == MULTI_TIFF for cls in extractor_class.__mro__)


def only_plane(volumes: Any, plane_index: int) -> Any:
    """
    Return what reads one plane of volumes, and no pixel of the others.

    roiextractors' own ``select_plane`` reads all of them and drops the others.

    :param volumes: An extractor of which :func:`takes_plane` is true.
    :param plane_index: From 0.
    :raises ConfigurationError: If there is no such plane.
    :raises ExtractorVersionError: If this version of roiextractors finds the pages in another way.
    """
    number = int(volumes.get_num_planes())
    if not 0 <= plane_index < number:
        raise ConfigurationError(
            f"plane_index is {plane_index}, but the recording has {number} plane(s). Count from 0, or leave it "
            "out."
        )
    if number == 1:
        return volumes
    pages = private(volumes, "_frames_to_ifd_table")
    plane = copy(volumes)
    plane._frames_to_ifd_table = pages[pages["depth_index"] == plane_index]  # noqa: SLF001 - this is the place
    plane._num_planes, plane.is_volumetric = 1, False  # noqa: SLF001
    # Volumes have their times, and so have their planes.
    plane.get_native_timestamps = volumes.get_native_timestamps
    return plane


def _multi_tiff_by_page(multi_tiff: Any) -> type:
    """
    Mend roiextractors' extractor of many TIFFs.

    tifffile does not follow the pages of a file of ScanImage before 2016 but computes where they are, all but the
    last. It follows them if it is told that the file is none of ScanImage's.
    """

    class MultiTIFFMultiPageExtractor(multi_tiff):  # type: ignore[misc]
        @property
        def _tifffile(self) -> Any:
            import tifffile

            by_page = partial(tifffile.TiffFile, is_scanimage=False)
            return SimpleNamespace(TiffFile=by_page, TIFF=tifffile.TIFF)

        @_tifffile.setter
        def _tifffile(self, module: Any) -> None:
            """Leave out the module that roiextractors sets."""

    return MultiTIFFMultiPageExtractor


def _scanimage_of_any_length(scanimage: Any) -> type:
    """
    Mend roiextractors' ScanImage extractor.

    It numbers the pages of a file and the samples of a recording in 16 bits, and planes in 8; beyond that, it
    gives the first ones again. And it takes ``channelSave = [1;2]`` for two lists of channels.
    """

    class ScanImageImagingExtractor(scanimage):  # type: ignore[misc]
        @property
        def _metadata(self) -> dict[str, Any]:
            return self._settings

        @_metadata.setter
        def _metadata(self, settings: dict[str, Any]) -> None:
            saved = settings.get(CHANNEL_SAVE)
            is_column = isinstance(saved, list) and all(isinstance(row, list) for row in saved)
            columns = [number for row in saved for number in row] if is_column else saved  # type: ignore[union-attr]
            self._settings = settings | {CHANNEL_SAVE: columns}

        @staticmethod
        def _create_frame_to_ifd_table(  # noqa: PLR0917 - its signature is given
            num_channels: int,
            num_planes: int,
            num_acquisition_cycles: int,
            ifds_per_file: list[int],
            num_frames_per_slice: int = 1,
            num_flyback_frames_per_channel: int = 0,
        ) -> Any:
            pages_of_images = num_planes * num_frames_per_slice * num_channels
            pages_per_cycle = pages_of_images + num_flyback_frames_per_channel * num_channels
            page = np.arange(num_acquisition_cycles * pages_per_cycle)
            page = page[page % pages_per_cycle < pages_of_images]
            first_pages = np.concatenate([[0], np.cumsum(ifds_per_file)])
            file = np.searchsorted(first_pages, page, side="right") - 1
            within = page % pages_per_cycle
            columns = {
                "file_index": file,
                "IFD_index": page - first_pages[file],
                "channel_index": within % num_channels,
                "depth_index": within // (num_channels * num_frames_per_slice),
                "slice_sample_index": within // num_channels % num_frames_per_slice,
                "acquisition_cycle_index": page // pages_per_cycle,
            }
            table = np.empty(len(page), dtype=[(name, np.uint32) for name in columns])
            for name, column in columns.items():
                table[name] = column
            return table

    return ScanImageImagingExtractor


def _reading_scanbox(scanbox: Any) -> type:
    """Make Scanbox' extractor, which computes with what it maps, read it before."""

    class SbxImagingExtractor(scanbox):  # type: ignore[misc]
        def get_series(self, start_sample: int | None = None, end_sample: int | None = None) -> Any:
            stored = read_mapped(self._data[0, :, :, 0, start_sample:end_sample])
            return (np.iinfo(np.uint16).max - stored).transpose(2, 1, 0)

    return SbxImagingExtractor


def _given_arrays(extractor_class: type, recording: Suite2pRecording) -> type:
    """
    Make suite2p's extractor take the arrays that are pickles from what was read and checked.

    By itself it reads them again, and runs what they say; and of what is chosen by default it looks at the first
    plane in another order.

    :raises ExtractorVersionError: If this version of roiextractors reads its arrays in another way.
    """
    read_array = _require_method(extractor_class, "_load_npy")

    def load(self: object, file_name: str, mmap_mode: str | None = None, **options: Any) -> Any:
        if mmap_mode is not None:
            array = read_array(self, file_name, mmap_mode=mmap_mode, **options)
            return read_mapped(array) if file_name in (CLASSES, RED_CELLS) else array
        return {OPTIONS: recording.options_array, STATISTICS: recording.statistics}[file_name]

    planes = classmethod(lambda *_, **__: [recording.plane_name])
    members = {"_load_npy": load, "get_available_planes": planes, "__module__": extractor_class.__module__}
    return type(extractor_class.__name__, (extractor_class,), members)


def _opening_stores(extractor_class: type) -> type:
    """
    Make Minian's extractor open each store by itself.

    It looks for them in a group of Zarr that the folder would have to be, and is not if xarray wrote them.

    :raises ExtractorVersionError: If this version of roiextractors opens them in another way.
    """
    _require_method(extractor_class, "_read_zarr_group")

    def read_group(self: Any, zarr_group: str) -> Any:
        import zarr

        place = Path(self.folder_path, zarr_group.strip("/"))
        return zarr.open(str(place), mode="r") if place.exists() else None

    members = {"_read_zarr_group": read_group, "__module__": extractor_class.__module__}
    return type(extractor_class.__name__, (extractor_class,), members)


def _reading_hdf5_by_stream(extractor_class: type) -> type:
    """
    Make an extractor of an HDF5 file read it through :class:`Hdf5Stream`, as the classes do that it hands it to.

    By themselves they, and hdmf, take for absent what cannot be read at that moment.

    :raises ExtractorVersionError: If this version of roiextractors opens the file in another way.
    """
    module = vars(sys.modules[extractor_class.__module__])
    names: dict[str, Any] = {"h5py": _StreamingH5py(), "read_nwb": _read_nwb}
    names |= {
        name: _seeing(found, names)
        for name, found in module.items()
        if isclass(found) and found is not extractor_class and _functions_that_see(found, names)
    }
    if not _functions_that_see(extractor_class, names):
        raise _another_version(extractor_class, " or ".join(names))
    return _seeing(extractor_class, names)


class _StreamingH5py:
    """h5py, but for how it opens a file."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("h5py"), name)

    @staticmethod
    def File(name: Path | str, mode: str = "r") -> Any:  # noqa: N802 - h5py's name
        """Open a file for reading."""
        import h5py

        return h5py.File(Hdf5Stream(name), mode)


def _read_nwb(path: str) -> Any:
    """Do what ``pynwb.read_nwb`` does with an HDF5 file."""
    from pynwb import NWBHDF5IO

    return NWBHDF5IO(file=_StreamingH5py.File(path), mode="r", load_namespaces=True).read()


def _functions_that_see(cls: type, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the functions of a class itself, static ones included, in which one of some global names stands."""
    codes = {name: getattr(_unwrapped(member), "__code__", None) for name, member in vars(cls).items()}
    seen = [name for name, code in codes.items() if code and not names.keys().isdisjoint(code.co_names)]
    return {name: vars(cls)[name] for name in seen}


def _seeing(cls: type, names: Mapping[str, Any]) -> type:
    """Make a subclass whose functions see something else by some global names; nobody else's do."""
    members: dict[str, Any] = {"__module__": cls.__module__}
    for name, member in _functions_that_see(cls, names).items():
        old = _unwrapped(member)
        new = FunctionType(old.__code__, {**old.__globals__, **names}, name, old.__defaults__, old.__closure__)
        new.__kwdefaults__ = old.__kwdefaults__
        members[name] = new if old is member else type(member)(new)
    return type(cls.__name__, (cls,), members)


def _unwrapped(member: Any) -> Any:
    """Return the function of a static method or class method; what else is there as it is."""
    return getattr(member, "__func__", member)


def _require_method(extractor_class: type, name: str) -> Any:
    method = getattr(extractor_class, name, None)
    if method is None:
        raise _another_version(extractor_class, name)
    return method


def _another_version(extractor_class: type, name: str) -> ExtractorVersionError:
    return ExtractorVersionError(
        f"{extractor_class.__name__} of roiextractors {version('roiextractors')} has no {name}, so it cannot be "
        "made to read right and safely. Install roiextractors 0.10."
    )
