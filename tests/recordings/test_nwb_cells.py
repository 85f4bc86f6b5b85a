"""Segmentations in NWB files: nothing of them lies elsewhere, and masks and traces are of the same ROIs."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from cell_recordings import COLUMNS, ROWS
from recording_makers import MAKERS

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.extractors import open_segmentation

TABLE = "processing/ophys/ImageSegmentation/PlaneSegmentation"


@pytest.fixture
def made(tmp_path):
    return MAKERS["NWB cells"](tmp_path / "cells")


def opened(made):
    return open_segmentation(made.extractor, made.arguments)


def test_masks_that_lie_elsewhere_are_refused(made, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4 * 5 * ROWS * COLUMNS))
    with h5py.File(made.files[0], "r+") as file:
        kept = dict(file[f"{TABLE}/image_mask"].attrs)
        del file[f"{TABLE}/image_mask"]
        external = [(str(tmp_path / "secret"), 0, 4 * 5 * ROWS * COLUMNS)]
        masks = file.create_dataset(f"{TABLE}/image_mask", (5, COLUMNS, ROWS), "f4", external=external)
        masks.attrs.update(kept)
    with pytest.raises(SourceDataError, match="external storage"):
        opened(made)


def test_traces_of_other_rois_are_named(made):
    place = "processing/ophys/Fluorescence/RoiResponseSeries/data"
    with h5py.File(made.files[0], "r+") as file:
        kept = dict(file[place].attrs)
        del file[place]
        file.create_dataset(place, data=np.ones((8, 4))).attrs.update(kept)
    with pytest.raises(SourceDataError, match=r"has 5 ROIs, but .*RoiResponseSeries is of 4"):
        opened(made)


@pytest.mark.parametrize("place", [TABLE, "processing/ophys/Fluorescence", "processing/ophys"])
def test_a_file_without_masks_and_traces_is_named(made, place):
    with h5py.File(made.files[0], "r+") as file:
        del file[place]
    with pytest.raises(SourceDataError, match=r"cells.nwb has no /processing/ophys/.* with traces"):
        opened(made)
