"""An option of the writers has one name and one default, wherever it can be given."""

from __future__ import annotations

import inspect

import pytest

from airflow_provider_ophys import nwb
from airflow_provider_ophys.conversion import write_session
from airflow_provider_ophys.models.conversion import (
    Conversion,
    ConversionOptions,
    ImagingConversion,
    MovieOptions,
    SegmentationConversion,
    SegmentationOptions,
)
from airflow_provider_ophys.operators.conversion import NWBOutputOperator
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.parallel import PlanImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.session import WriteSessionOperator

# Where a conversion takes what the platform sets, a writer for Python has a default of its own.
OF_THE_PLATFORM = {"compression": "fast"}
RECORDING = {"extractor", "extractor_kwargs"}


def keywords(function):
    """What a function takes by name only, with the defaults; ``...`` for what has to be given."""
    parameters = inspect.signature(function).parameters.values()
    named = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    return {name: ... if default is inspect.Parameter.empty else default for name, default in named.items()}


def options_of(operator):
    """What an operator takes beside what any task takes."""
    own = operator.__mro__[: operator.__mro__.index(NWBOutputOperator)]
    return {name: default for cls in own for name, default in keywords(cls.__init__).items()}


def defaults_of(model, names):
    return {name: field.default for name, field in model.model_fields.items() if name in names}


@pytest.mark.parametrize("operator", [WriteImagingOperator, WriteSegmentationOperator, PlanImagingOperator])
def test_the_options_of_an_operator_are_those_of_its_conversion(operator):
    # Of the operator, no argument is None.
    declared = operator.conversion_class.defaults() | {"extractor_kwargs": None}
    assert options_of(operator) == declared
    assert set(operator.template_fields) == set(declared)


def test_the_options_of_a_session_are_those_of_all_conversions_and_what_and_where():
    options = options_of(WriteSessionOperator)
    what_and_where = {"session": ..., "nwbfile_path": None, "output_folder": None}
    assert options == ConversionOptions.defaults() | what_and_where
    assert set(WriteSessionOperator.template_fields) == set(options)


@pytest.mark.parametrize(
    ("conversion", "part", "add"),
    [
        (ImagingConversion, MovieOptions, nwb.add_imaging_to_nwbfile),
        (SegmentationConversion, SegmentationOptions, nwb.add_segmentation_to_nwbfile),
    ],
)
def test_a_movie_or_segmentation_has_the_same_options_in_a_session_by_itself_and_in_python(conversion, part, add):
    options = keywords(add)
    assert defaults_of(part, options) == options
    assert defaults_of(conversion, options) == options
    assert set(part.model_fields) == {*options, *RECORDING}


@pytest.mark.parametrize(
    ("write", "add"),
    [
        (nwb.write_imaging_to_nwbfile, nwb.add_imaging_to_nwbfile),
        (nwb.write_segmentation_to_nwbfile, nwb.add_segmentation_to_nwbfile),
    ],
)
def test_a_writer_takes_what_adding_takes_and_how_a_file_is_written(write, add):
    into_a_file = {"nwbfile": None, "metadata": None, "overwrite": False, "append_on_disk_nwbfile": False}
    written = keywords(write)
    assert keywords(add) | into_a_file == {name: written.pop(name) for name in {*keywords(add), *into_a_file}}
    assert set(written) == {
        *("backend", "backend_configuration", "compression", "memory_limit", "source_metadata", "threads"),
        "validate",
    }
    assert written == {name: Conversion.defaults()[name] for name in written} | OF_THE_PLATFORM


def test_a_session_has_the_same_options_in_python():
    options = keywords(write_session)
    # A report is made by the operator and in a terminal.
    assert set(ConversionOptions.defaults()) - set(options) == {"report"}
    assert options == {name: Conversion.defaults()[name] for name in options}
