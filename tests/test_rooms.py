"""Imports point one way, and what a DAG file loads is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "airflow_provider_ophys"

HEAVY = {
    "boto3",
    "botocore",
    "h5py",
    "hdf5plugin",
    "hdmf",
    "hdmf_zarr",
    "matplotlib",
    "nwbinspector",
    "pandas",
    "pynwb",
    "roiextractors",
    "scipy",
    "zarr",
}

# Which rooms each room may import from; the order is the direction in which data flows.
MAY_IMPORT = {
    "exceptions": set(),
    "get_provider_info": set(),
    "models": {"exceptions"},
    "acquisition": {"exceptions", "models"},
    "recordings": {"exceptions"},
    "extractors": {"exceptions", "models", "recordings"},
    "staging": {"exceptions", "models"},
    "writing": {"exceptions", "models"},
    "nwb": {"exceptions", "models", "extractors", "writing"},
    "conversion": {"exceptions", "models", "extractors", "writing", "nwb"},
    "report": {"exceptions", "models", "nwb", "conversion", "writing"},
    "retries": {"exceptions"},
    "assets": {"exceptions"},
    "settings": {"exceptions", "models", "conversion"},
    "preload": {"conversion"},
    "hooks": {"exceptions", "models", "staging", "retries"},
    "triggers": {"exceptions", "models", "acquisition", "retries"},
    "sensors": {"exceptions", "models", "acquisition", "triggers", "retries", "assets"},
    "plugin": {"exceptions", "models", "acquisition", "settings"},
    "operators": {
        "exceptions",
        "models",
        "extractors",
        "writing",
        "nwb",
        "conversion",
        "report",
        "hooks",
        "staging",
        "retries",
        "assets",
        "settings",
    },
}
AIRFLOW_ROOMS = {"retries", "assets", "settings", "preload", "hooks", "triggers", "sensors", "operators", "plugin"}


def room_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file):
    tree = ast.parse(file.read_text())
    if file == PACKAGE / "nwb" / "__init__.py":  # exports lazily by name; what is for type checkers is no import
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


FILES = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_before_it(file):
    room = room_of(file)
    for module in imports_of(file):
        parts = module.split(".")
        if parts[0] == "airflow_provider_ophys" and len(parts) > 1:
            assert parts[1] == room or parts[1] in MAY_IMPORT[room], f"{room} must not import {module}"
        if parts[0] == "airflow":
            assert room in AIRFLOW_ROOMS, f"{room} must not know Airflow"
        if parts[0] == "pynwb":
            assert room in {"nwb", "conversion"}, f"{room} must not know pynwb"


def loaded_by(statement):
    code = f"{statement}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "module",
    [
        "operators.imaging",
        "operators.parallel",
        "operators.report",
        "operators.segmentation",
        "operators.staging",
        "sensors.acquisition",
        "triggers.acquisition",
        "plugin.ophys_plugin",
        "models.metadata",
        "models.conversion",
        "nwb",
        "acquisition",
        "extractors",
    ],
)
def test_what_a_dag_file_imports_is_light(module):
    assert not HEAVY & loaded_by(f"import airflow_provider_ophys.{module}")


def test_the_plugin_loads_its_pages_in_the_api_server_only():
    """Every process of Airflow imports it."""
    assert not {"fastapi", "jinja2"} & (
        loaded_by("import airflow_provider_ophys.plugin.ophys_plugin")
        - loaded_by("import airflow.sdk.plugins_manager")
    )


@pytest.mark.parametrize(
    "module",
    [
        "conversion.run",
        "conversion.many_workers",
        "writing.pipeline",
        "report.files",
        "acquisition",
        "staging",
        "extractors",
    ],
)
def test_the_work_is_done_without_airflow(module):
    assert "airflow" not in loaded_by(f"import airflow_provider_ophys.{module}")


def test_the_public_names_are_there():
    from airflow_provider_ophys import nwb

    assert nwb.__all__ == [
        "HDF5BackendConfiguration",
        "ImagingExtractorDataChunkIterator",
        "ZarrBackendConfiguration",
        "add_imaging_to_nwbfile",
        "add_segmentation_to_nwbfile",
        "get_default_backend_configuration",
        "get_existing_backend_configuration",
        "write_imaging_to_nwbfile",
        "write_segmentation_to_nwbfile",
    ]
    for name in nwb.__all__:
        assert getattr(nwb, name).__name__ == name
