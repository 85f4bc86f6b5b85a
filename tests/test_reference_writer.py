"""What docs/reference-writer.md says of us is so: each option that it names is there, and none is left out."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from airflow_provider_ophys import nwb
from airflow_provider_ophys.models.backend import HDF5DatasetConfiguration, ZarrDatasetConfiguration
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/reference-writer.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def options(section, header="option"):
    """The rows of the first table of a section: option -> what is said of ours."""
    table = SECTIONS[section].partition(f"| {header} |")[2].partition("\n\n")[0]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in table.splitlines()[2:]]
    return {name.strip("`"): ours for name, _, ours in rows}


def parameters(function):
    return set(inspect.signature(function).parameters)


def taken_by(section, letter):
    return {name for name, ours in options(section).items() if re.match(rf"(A, )?{letter}\b", ours)}


@pytest.mark.parametrize(
    ("section", "add", "write"),
    [
        ("Imaging", nwb.add_imaging_to_nwbfile, nwb.write_imaging_to_nwbfile),
        ("Segmentation", nwb.add_segmentation_to_nwbfile, nwb.write_segmentation_to_nwbfile),
    ],
)
def test_the_options_of_the_writers(section, add, write):
    assert taken_by(section, "A") == parameters(add)
    assert taken_by(section, "W") == parameters(write)
    assert parameters(add) <= parameters(write)


@pytest.mark.parametrize(
    ("operator", "add"),
    [
        (WriteImagingOperator, nwb.add_imaging_to_nwbfile),
        (WriteSegmentationOperator, nwb.add_segmentation_to_nwbfile),
    ],
)
def test_every_option_of_add_is_one_of_the_operator(operator, add):
    objects = {"imaging", "segmentation_extractor", "nwbfile"}
    assert parameters(add) - objects <= set(operator.template_fields)


def test_the_options_of_the_iterator():
    assert set(options("Iterator")) == parameters(nwb.ImagingExtractorDataChunkIterator)


def test_the_fields_of_the_storage():
    described = set(options("Storage", "field"))
    assert described == set(ZarrDatasetConfiguration.model_fields)
    assert described - {"shard_shape"} == set(HDF5DatasetConfiguration.model_fields)


def test_the_readme_links_it():
    assert "(docs/reference-writer.md)" in (ROOT / "README.md").read_text()
