"""Each option is declared once; sensor and trigger follow."""

from __future__ import annotations

from inspect import signature

import pytest
from airflow.sdk import DAG, Asset

from airflow_provider_ophys.acquisition import AcquisitionOptions
from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

FIELDS = AcquisitionOptions.model_fields


@pytest.mark.parametrize("of", [AcquisitionFolderSensor, AcquisitionFolderTrigger])
def test_the_signature_names_every_option_and_its_default(of):
    parameters = signature(of).parameters
    assert {name: parameters[name].default for name in FIELDS if name != "path"} == {
        name: field.default for name, field in FIELDS.items() if name != "path"
    }
    assert parameters["path"].default is parameters["path"].empty


def test_every_option_of_the_sensor_is_a_template_field():
    assert set(AcquisitionFolderSensor.template_fields) == set(FIELDS)


def test_default_args_and_mapped_sensors_know_the_options():
    with DAG("demo", default_args={"settle_seconds": 5, "max_folders": 7}):
        waiting = AcquisitionFolderSensor(task_id="wait", path="/data", max_folders=3)
        mapped = AcquisitionFolderSensor.partial(
            task_id="mapped", marker_file="DONE", inlets=[Asset("mapped")]
        ).expand(path=["/a", "/b"])
    assert (waiting.settle_seconds, waiting.max_folders) == (5, 3)
    assert mapped.partial_kwargs["marker_file"] == "DONE"


NUMBERS = {"settle_seconds": "5.5", "min_size": "2kB", "min_files": "3", "max_folders": "7"}


def test_numbers_may_be_text():
    """Airflow renders templates to text, and its Variables are text."""
    trigger = AcquisitionFolderTrigger(path="/data", poke_interval="2.5", **NUMBERS)
    assert (
        trigger.serialize()[1] | {"settle_seconds": 5.5, "min_size": 2000, "min_files": 3}
        == trigger.serialize()[1]
    )
    assert (trigger.options.max_folders, trigger.poke_interval) == (7, 2.5)
    with DAG("demo", params={"n": 7}):
        waiting = AcquisitionFolderSensor(task_id="wait", path="/data", max_folders="{{ params.n }}")
    waiting.render_template_fields({"params": {"n": 7}})
    assert waiting._options().max_folders == 7


WRONG = [
    ({"settle_second": 5}, "settle_second"),
    ({"existing": "skip"}, "existing"),
    ({"max_folders": "many"}, "max_folders"),
    ({"min_files": "3.5"}, "min_files"),
    ({"required_files": ["../*.tif"]}, "required_files"),
]


@pytest.mark.parametrize(("wrong", "name"), WRONG, ids=[name for _, name in WRONG])
def test_a_misspelt_option_is_refused_when_the_dag_is_parsed(wrong, name):
    with pytest.raises(ConfigurationError, match=name):
        AcquisitionFolderTrigger(path="/data", **wrong)
    with pytest.raises((ConfigurationError, TypeError), match=name):
        AcquisitionFolderSensor(task_id="wait", path="{{ params.path }}", **wrong)


def test_a_template_is_checked_when_it_is_rendered_and_what_is_beside_it_when_the_dag_is_parsed():
    AcquisitionFolderSensor(task_id="wait", path="{{ params.path }}", required_files=["{{ params.glob }}"])
    with pytest.raises(ConfigurationError, match="min_size"):
        AcquisitionFolderSensor(task_id="wait", path="{{ params.path }}", min_size="big")


def test_a_template_in_a_trigger_is_refused_because_nobody_renders_it():
    with pytest.raises(ConfigurationError, match=r"path.*Variable\.get"):
        AcquisitionFolderTrigger(path="{{ var.value.root }}")


@pytest.mark.parametrize("interval", [0, -1, "soon", "nan", float("inf")])
def test_an_interval_that_makes_no_sense_is_refused(interval):
    with pytest.raises(ConfigurationError, match="poke_interval must be"):
        AcquisitionFolderTrigger(path="/data", poke_interval=interval)
