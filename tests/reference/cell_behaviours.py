"""What the reference's writers do with cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from calls import IMAGES, RESPONSES, SEGMENTATION, behaviour, described, each, empty, listed, new_file, written
from recordings_in_memory import COLUMNS, LINE, ROWS, SAMPLES, cells, cells_as_pixels, movie, traces

ALL_TRACES = {
    "raw": traces(),
    "dff": traces(offset=0.5),
    "neuropil": traces(offset=1.5),
    "deconvolved": traces(offset=2.5),
    "correlation_image": np.ones((ROWS, COLUMNS)),
}
WITHOUT_DFF = {name: value for name, value in ALL_TRACES.items() if name != "dff"}


@behaviour
def cells_of_which_nothing_is_known(w, folder):
    return written(w.add_segmentation_to_nwbfile(cells(**ALL_TRACES), empty()), folder)


@behaviour
def cells_described_in_the_dict_form(w, folder):
    metadata = described(RoiResponses={"cells": RESPONSES}, SegmentationImages={"cells": IMAGES})
    made = cells(**WITHOUT_DFF)
    return written(w.add_segmentation_to_nwbfile(made, empty(), metadata, metadata_key="cells"), folder)


@behaviour
def dff_described_in_the_dict_form(w, folder):
    metadata = described(RoiResponses={"cells": RESPONSES | {"dff": {"name": "DeltaF", "unit": "n.a."}}})
    made = cells(**ALL_TRACES)
    return written(w.add_segmentation_to_nwbfile(made, empty(), metadata, metadata_key="cells"), folder)


@behaviour
def traces_and_images_that_are_named(w, folder):
    metadata = described(
        RoiResponses={"cells": {"neuropil": RESPONSES["neuropil"]}},
        SegmentationImages={"cells": {"correlation": IMAGES["correlation"]}},
    )
    made = cells(**WITHOUT_DFF)
    return written(w.add_segmentation_to_nwbfile(made, empty(), metadata, metadata_key="cells"), folder)


@behaviour
def traces_of_which_some_are_not_there(w, folder):
    metadata = described(RoiResponses={"cells": RESPONSES}, SegmentationImages={"cells": IMAGES})
    return written(w.add_segmentation_to_nwbfile(cells(), empty(), metadata, metadata_key="cells"), folder)


@behaviour
def named_traces_of_an_extractor_without_any(w, folder):
    metadata = described(RoiResponses={"cells": RESPONSES})
    made = cells(raw=None)
    return written(w.add_segmentation_to_nwbfile(made, empty(), metadata, metadata_key="cells"), folder)


ZEROS = {"deconvolved": np.zeros((SAMPLES, 3))}


@each(unnamed={}, named={"deconvolved": RESPONSES["deconvolved"], "raw": RESPONSES["raw"]})
def traces_of_zeros(w, folder, responses):
    metadata = described(**{"RoiResponses": {"cells": responses}} if responses else {})
    made = cells(**ZEROS)
    return written(w.add_segmentation_to_nwbfile(made, empty(), metadata, metadata_key="cells"), folder)


def cells_in_list_form(**tables: Any) -> dict[str, Any]:
    table = {"name": "Cells", "description": "By hand.", "imaging_plane": "V1"}
    return listed(
        ImageSegmentation={"name": "ImageSegmentation", "plane_segmentations": [table]},
        Fluorescence={"name": "Fluorescence", "Cells": RESPONSES},
        DfOverF={"name": "DfOverF", "Cells": {"dff": {"name": "DeltaF", "unit": "n.a."}}},
        SegmentationImages={"name": "SegmentationImages", "description": "i", "Cells": IMAGES},
        **tables,
    )


@each(image="image", pixel="pixel", voxel="voxel", other="other")
def masks_in_the_list_form(w, folder, mask_type):
    options = {"plane_segmentation_name": "Cells", "mask_type": mask_type}
    return written(
        w.add_segmentation_to_nwbfile(cells(**ALL_TRACES), empty(), cells_in_list_form(), **options), folder
    )


@behaviour
def table_that_is_not_described(w, folder):
    options = {"plane_segmentation_name": "Others"}
    return written(w.add_segmentation_to_nwbfile(cells(), empty(), cells_in_list_form(), **options), folder)


@each(
    lists={"accepted_list": [0, 2], "rejected_list": [1]},
    none={"accepted_list": [], "rejected_list": [0, 1, 2]},
)
def acceptance(w, folder, options):
    return written(
        w.add_segmentation_to_nwbfile(cells(**options), empty(), described(), metadata_key="cells"), folder
    )


@behaviour
def properties_of_cells(w, folder):
    made = cells()
    made.set_property("snr", [1.5, 2.5, 3.5], ids=made.get_roi_ids())
    made.set_property("label", ["a", "b", "c"], ids=made.get_roi_ids())
    made.set_property("count", [1, 2, 3], ids=made.get_roi_ids())
    return written(w.add_segmentation_to_nwbfile(made, empty(), described(), metadata_key="cells"), folder)


@behaviour
def names_of_cells(w, folder):
    made = cells(roi_ids=[7, 8, 30])
    return written(w.add_segmentation_to_nwbfile(made, empty(), described(), metadata_key="cells"), folder)


@behaviour
def cells_whose_masks_are_pixels(w, folder):
    made = cells_as_pixels()
    return written(w.add_segmentation_to_nwbfile(made, empty(), described(), metadata_key="cells"), folder)


@behaviour
def cells_without_traces_or_images(w, folder):
    made = cells(raw=None, mean_image=None)
    return written(w.add_segmentation_to_nwbfile(made, empty(), described(), metadata_key="cells"), folder)


@behaviour
def nothing_at_all(w, folder):
    made = cells(0, raw=None, mean_image=None)
    return written(w.add_segmentation_to_nwbfile(made, empty(), described(), metadata_key="cells"), folder)


@behaviour
def cells_of_two_tables(w, folder):
    metadata = described(PlaneSegmentations={"cells": SEGMENTATION, "others": SEGMENTATION | {"name": "Others"}})
    metadata["Ophys"]["RoiResponses"] = {
        "cells": {"raw": RESPONSES["raw"]},
        "others": {"raw": {"name": "R", "unit": "a"}},
    }
    metadata["Ophys"]["SegmentationImages"] = {"cells": {"mean": {"name": "m"}}, "others": {"mean": {"name": "n"}}}
    nwbfile = w.add_segmentation_to_nwbfile(cells(), empty(), metadata, metadata_key="cells")
    return written(w.add_segmentation_to_nwbfile(cells(), nwbfile, metadata, metadata_key="others"), folder)


@behaviour
def cells_beside_their_movie(w, folder):
    metadata = described()
    nwbfile = w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie")
    return written(w.add_segmentation_to_nwbfile(cells(), nwbfile, metadata, metadata_key="cells"), folder)


@each(regular=3.5 + LINE, irregular=3.5 + LINE**1.5)
def cells_with_stamps(w, folder, stamps):
    made = cells()
    made.set_times(stamps)
    return written(w.add_segmentation_to_nwbfile(made, empty(), described(), metadata_key="cells"), folder)


@each(hdf5="hdf5", zarr="zarr")
def new_file_with_cells(w, folder, backend):
    path = folder / "file.nwb"
    made = cells(**ALL_TRACES)
    w.write_segmentation_to_nwbfile(made, path, metadata=new_file() | cells_in_list_form(), backend=backend)
    return path


@each(hdf5="hdf5", zarr="zarr")
def cells_appended_to_a_movie(w, folder, backend):
    path = folder / "file.nwb"
    w.write_imaging_to_nwbfile(movie(), path, metadata=new_file() | listed(), backend=backend)
    w.write_segmentation_to_nwbfile(cells(), path, metadata=cells_in_list_form(), append_on_disk_nwbfile=True)
    return path
