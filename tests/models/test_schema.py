"""Every field that NWB has for what we write can be given in the metadata, or has a reason not to be."""

from __future__ import annotations

import pytest
from hdmf.utils import get_docval
from pynwb import NWBFile, get_type_map
from pynwb.device import Device, DeviceModel
from pynwb.file import Subject
from pynwb.image import GrayscaleImage
from pynwb.ophys import (
    ImagingPlane,
    OnePhotonSeries,
    OpticalChannel,
    PlaneSegmentation,
    RoiResponseSeries,
    TwoPhotonSeries,
)

from airflow_provider_ophys.models.metadata_sections import (
    DeviceMetadata,
    DeviceModelMetadata,
    ImagingPlaneMetadata,
    MicroscopySeriesMetadata,
    NWBFileMetadata,
    OpticalChannelMetadata,
    PlaneSegmentationMetadata,
    RoiResponseMetadata,
    SubjectMetadata,
    SummaryImageMetadata,
)

# What the recording gives, or what only a key of the metadata can refer to.
FROM_THE_RECORDING = {"data", "imaging_plane", "device", "rois", "model", "optical_channel"}
# The pixels are in the file, so it has none of what describes where else they are.
OF_PIXELS_ELSEWHERE = {"format", "external_file", "starting_frame", "num_samples"}
# Columns and rows of a table come from the segmentation.
OF_A_TABLE = {"id", "columns", "colnames", "target_tables", "meanings_tables"}
# Written when the file is.
OF_THE_WRITER = {"file_create_date", "external_resources"}
# What is in a file besides its description.
OF_THE_CONTENT = {
    *(
        "acquisition",
        "analysis",
        "stimulus",
        "stimulus_template",
        "epochs",
        "trials",
        "invalid_times",
        "intervals",
    ),
    *(
        "events",
        "units",
        "processing",
        "lab_meta_data",
        "electrodes",
        "electrode_groups",
        "sweep_table",
        "scratch",
    ),
    *("imaging_planes", "ogen_sites", "devices", "device_models", "subject", "icephys_electrodes"),
    *("icephys_filtering", "intracellular_recordings", "icephys_simultaneous_recordings"),
    *("icephys_sequential_recordings", "icephys_repetitions", "icephys_experimental_conditions"),
}
NOT_GIVEN = FROM_THE_RECORDING | OF_PIXELS_ELSEWHERE | OF_A_TABLE | OF_THE_WRITER | OF_THE_CONTENT

MODELS = [
    (NWBFile, NWBFileMetadata),
    (Subject, SubjectMetadata),
    (Device, DeviceMetadata),
    (DeviceModel, DeviceModelMetadata),
    (OpticalChannel, OpticalChannelMetadata),
    (ImagingPlane, ImagingPlaneMetadata),
    (TwoPhotonSeries, MicroscopySeriesMetadata),
    (OnePhotonSeries, MicroscopySeriesMetadata),
    (PlaneSegmentation, PlaneSegmentationMetadata),
    (RoiResponseSeries, RoiResponseMetadata),
    (GrayscaleImage, SummaryImageMetadata),
]


@pytest.mark.parametrize(("nwb_type", "model"), MODELS, ids=lambda kind: kind.__name__)
def test_every_field_that_pynwb_takes_can_be_given(nwb_type, model):
    taken = {argument["name"] for argument in get_docval(nwb_type.__init__)}
    assert taken - NOT_GIVEN - set(model.model_fields) == set()


@pytest.mark.parametrize(("nwb_type", "model"), MODELS[1:], ids=lambda kind: kind.__name__)
def test_every_text_and_number_of_the_schema_can_be_given(nwb_type, model):
    """pynwb may come to lack what the schema has: these are the schema's own names."""
    spec = get_type_map().namespace_catalog.get_spec("core", nwb_type.__name__)
    names = {part.name for part in (*spec.attributes, *spec.get("datasets", ())) if getattr(part, "name", None)}
    # pynwb has no argument for these.
    masks = {"image_mask", "pixel_mask", "pixel_mask_index", "voxel_mask", "voxel_mask_index"}
    assert names - NOT_GIVEN - masks - set(model.model_fields) == set()
