"""Segmentations in HDF5 files: what their readers would not notice, or would end the process, is named."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from cell_recordings import COLUMNS, RATE, ROWS
from recording_makers import MAKERS

from airflow_provider_ophys.exceptions import ConfigurationError, OphysError, SourceDataError
from airflow_provider_ophys.extractors import open_segmentation
from airflow_provider_ophys.recordings import recording_of

LEGACY = "EXTRACT before version 1"
CHANGES = {
    "pointers beyond the values": ("CaImAn", "estimates/A/indptr", np.array([0, 12, 10**9, 36, 48, 60]), "sparse"),
    "pointers that go back": (
        "CaImAn",
        "estimates/A/indptr",
        np.array([0, 24, 12, 36, 48, 60]),
        "no sparse matrix",
    ),
    "pixels outside": ("CaImAn", "estimates/A/indices", np.full(60, ROWS * COLUMNS), "outside of the 640 pixels"),
    "fewer values": ("CaImAn", "estimates/A/data", np.ones(59), "no sparse matrix"),
    "another field of view": ("CaImAn", "params/data/dims", np.array([ROWS, ROWS]), "no sparse matrix of 400"),
    "a volume": ("CaImAn", "params/data/dims", np.array([ROWS, COLUMNS, 2]), r"not \(rows, columns\)"),
    "shorter traces": ("CaImAn", "estimates/S", np.ones((5, 6)), "estimates/[A-Za-z]+ has the shape"),
    "traces of fewer": ("CaImAn", "estimates/F_dff", np.ones((4, 8)), "of 5 components there are"),
    "an accepted one too many": ("CaImAn", "estimates/idx_components", np.array([5]), "names others than the 5"),
    "no rate": ("CaImAn", "params/data/fr", 0.0, "not samples per second"),
    "background of another size": ("CaImAn", "estimates/b", np.ones((7, 1)), "estimates/b has 7 pixels"),
    "signals of fewer": ("CNMF-E", "result/extractedSignals", np.ones((8, 4)), "of 5 ROIs, but .* of 4"),
    "no time": ("CNMF-E", "result/time/totalTime", np.array([[np.nan]]), "is nan, not seconds"),
    "texts as images": ("CNMF-E", "result/extractedImages", np.full((5, 2, 2), b"a"), "not numbers of 3 axes"),
    "traces of more": ("EXTRACT", "output/temporal_weights", np.ones((6, 8)), "masks of 5 ROIs, but traces of 6"),
    "no version": ("EXTRACT", "output/info/version", np.array([[0]], "uint16"), "no version of EXTRACT"),
    "filters of fewer": (
        "EXTRACT before version 1",
        "extractAnalysisOutput/filters",
        np.ones((4, 2, 2)),
        "of 4 ROIs",
    ),
}


def change(file, path, value):
    with h5py.File(file, "r+") as opened:
        del opened[path]
        if value is not None:
            opened[path] = value


@pytest.mark.parametrize(("maker", "path", "value", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_parts_that_do_not_belong_together_are_named(tmp_path, maker, path, value, message):
    made = MAKERS[maker](tmp_path / "cells")
    change(made.files[0], path, value)
    with pytest.raises(SourceDataError, match=message) as caught:
        open_segmentation(made.extractor, made.arguments)
    assert str(made.files[0]) in str(caught.value)


@pytest.mark.parametrize("name", ["C", "YrA", "F_dff", "b", "Cn"])
def test_what_caiman_did_not_compute_is_not_missed(tmp_path, name):
    made = MAKERS["CaImAn"](tmp_path / "cells")
    change(made.files[0], f"estimates/{name}", b"NoneType")
    cells = open_segmentation(made.extractor, made.arguments)
    (plane,) = recording_of("segmentation", made.extractor, made.arguments).contents().segmentations
    assert (cells.get_num_rois(), cells.get_num_samples()) == (plane.num_rois, plane.num_samples) == (5, 8)


def test_what_announces_more_than_it_holds_is_refused(tmp_path):
    """Reading it would fill the memory with values that nobody wrote."""
    made = MAKERS[LEGACY](tmp_path / "cells")
    with h5py.File(made.files[0], "r+") as opened:
        del opened["extractAnalysisOutput/filters"]
        opened.create_dataset("extractAnalysisOutput/filters", (5, 200_000, 200_000), "f8", chunks=(1, 100, 100))
    with pytest.raises(SourceDataError, match=r"filters should have 1,600,000,000,000 bytes, but 0 are there"):
        open_segmentation(made.extractor, made.arguments)


@pytest.mark.parametrize("maker", ["CaImAn", "CNMF-E", "EXTRACT", LEGACY])
def test_files_that_lead_out_are_refused(tmp_path, maker):
    made = MAKERS[maker](tmp_path / "cells")
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["values"] = np.ones((5, 8))
    with h5py.File(made.files[0], "r+") as opened:
        first = next(name for name in opened if "#" not in name)
        opened[f"{first}/more"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/values")
    with pytest.raises(SourceDataError, match="outside of the recording's folder"):
        open_segmentation(made.extractor, made.arguments)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), "ten", True])
def test_a_rate_that_is_none_is_refused(tmp_path, rate):
    made = MAKERS["EXTRACT"](tmp_path / "cells")
    with pytest.raises(ConfigurationError, match="sampling_frequency .*is"):
        open_segmentation(made.extractor, made.arguments | {"sampling_frequency": rate})


def test_a_structure_of_another_name_is_read_if_it_is_named(tmp_path):
    made = MAKERS["EXTRACT"](tmp_path / "cells")
    with h5py.File(made.files[0], "r+") as opened:
        opened.move("output", "mine")
    with pytest.raises(SourceDataError, match="output_struct_name"):
        open_segmentation(made.extractor, made.arguments)
    named = made.arguments | {"output_struct_name": "mine"}
    (plane,) = recording_of("segmentation", made.extractor, named).contents().segmentations
    assert (plane.num_rois, plane.rate) == (open_segmentation(made.extractor, named).get_num_rois(), RATE)


@pytest.mark.parametrize("maker", ["CaImAn", "CNMF-E", "EXTRACT", LEGACY])
def test_every_part_that_is_missing_gives_an_error_of_ours_or_none(tmp_path, maker):
    made = MAKERS[maker](tmp_path / "cells")
    content, paths = made.files[0].read_bytes(), []
    with h5py.File(made.files[0]) as opened:
        opened.visit(paths.append)
    for path in paths:
        change(made.files[0], path, None)
        try:
            open_segmentation(made.extractor, made.arguments)
        except OphysError as error:
            assert str(made.files[0]) in str(error)  # noqa: PT017
        made.files[0].write_bytes(content)
