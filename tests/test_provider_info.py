"""Airflow finds the provider, and understands all that it says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import entry_points, version
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from airflow_provider_ophys import __version__
from airflow_provider_ophys.get_provider_info import get_provider_info

AIRFLOW = Path(sys.executable).with_name("airflow")


def schema(name):
    return json.loads((files("airflow") / name).read_text())


def test_is_valid_for_both_schemas():
    info = get_provider_info()
    jsonschema.validate(info, schema("provider_info.schema.json"))
    # The runtime's schema lets unknown keys pass; the one that providers are built by does not.
    full = schema("provider.yaml.schema.json")
    strict = full["properties"]
    for key in info.keys() & strict.keys():
        jsonschema.validate(info[key], strict[key] | {"definitions": full["definitions"]})
    assert info.keys() - {"package-name", "name", "description"} <= strict.keys()


def test_the_entry_point_gives_it():
    (entry,) = [
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.value.startswith("airflow_provider_ophys")
    ]
    assert entry.load()() == get_provider_info()
    assert entry.dist.name == get_provider_info()["package-name"]


def test_the_version_is_the_distributions():
    assert version("airflow-provider-ophys") == __version__


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_every_module_it_names_is_there(kind):
    for group in get_provider_info()[kind]:
        for module in group["python-modules"]:
            importlib.import_module(module)


def test_airflow_lists_the_provider_and_its_configuration(airflow_db):
    providers = subprocess.run([AIRFLOW, "providers", "list"], capture_output=True, text=True, check=True)
    assert "airflow-provider-ophys" in providers.stdout
    config = subprocess.run(
        [AIRFLOW, "config", "list", "--section", "ophys", "--defaults"], capture_output=True, text=True, check=True
    )
    for option in (
        *("memory_limit", "memory_fraction", "threads", "compression", "allowed_roots", "allow_pickle", "lock"),
    ):
        assert f"\n# {option} = " in config.stdout or f"\n{option} = " in config.stdout
