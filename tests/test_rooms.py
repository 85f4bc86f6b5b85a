"""Imports point one way, between rooms and between files, and what a DAG file loads is light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from airflow_versions import VERSION

PACKAGE = Path(__file__).parents[1] / "airflow_provider_ophys"
DAGS = PACKAGE.with_name("dags")

# The direction in which data flows: a room imports from those of the rows before its own, and from none beside it.
ORDER = (
    {"exceptions", "get_provider_info"},
    {"models"},
    {"recordings", "extractor_internals"},
    {"mended_extractors", "opened_recordings"},
    {"acquisition", "extractors", "staging", "writing"},
    {"sessions", "nwb"},
    {"conversion"},
    {"report"},
    {"compat"},
    {"retry_policy", "settings"},
    {"assets", "preload", "retries", "session_notes"},
    {"hooks", "triggers"},
    {"plugin"},
    {"operators", "sensors"},
    {"terminal"},
    {"__main__"},
)
ROW_OF = {room: row for row, rooms in enumerate(ORDER) for room in rooms}
AIRFLOW_ROOMS = {
    *("assets", "compat", "hooks", "operators", "plugin", "preload", "retries", "retry_policy", "sensors"),
    *("session_notes", "settings", "triggers"),
}
# The last gives roiextractors' extractors of NWB files the file that pynwb reads for them.
PYNWB_ROOMS = {"nwb", "conversion", "mended_extractors"}
# Users' door: it exports names of rooms above it, each imported on first use, so nobody inside enters by it.
DOOR = "nwb"

HEAVY = [
    *("boto3", "botocore", "h5py", "hdf5plugin", "hdmf", "hdmf_zarr", "matplotlib", "nwbinspector", "pandas"),
    *("pynwb", "roiextractors", "scipy", "zarr"),
]
# What DAG files and Airflow's own processes import.
LIGHT = {
    "plugin/ophys_plugin.py",
    "nwb/__init__.py",
    "conversion/__init__.py",
    "sessions/__init__.py",
    "extractors.py",
}
LIGHT_ROOMS = {
    *("acquisition", "assets", "compat", "models", "operators", "retries", "sensors", "session_notes", "triggers"),
}


def module_of(file):
    """The name of a file's module below the package."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def names_imported(file):
    """All that a file imports, anywhere in it, with the names that it takes from each module."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


FILES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"}


@cache
def imports():
    """What each module of the package imports, by name."""
    return {module: set(names_imported(file)) for module, file in FILES.items()}


def files_among(names):
    """The modules of the package among the names that a file imports."""
    for name in names:
        package, _, inside = name.partition(".")
        if package == PACKAGE.name and inside:
            # A submodule, or a name that is in a module.
            module = inside if inside in FILES else inside.rpartition(".")[0]
            if module:
                yield module


@cache
def arrows_between_files():
    """The modules of the package that each of them imports."""
    return {module: set(files_among(names)) for module, names in imports().items() if module != DOOR}


def room_of(module):
    return module.partition(".")[0]


def test_every_room_has_its_place():
    assert {room_of(module) for module in FILES} <= ROW_OF.keys()


def test_a_room_imports_only_from_rooms_before_it():
    upward = [
        f"{module} imports {imported}"
        for module, targets in arrows_between_files().items()
        for imported in targets
        if room_of(imported) != room_of(module) and ROW_OF[room_of(imported)] >= ROW_OF[room_of(module)]
    ]
    assert upward == []


def circle_from(module, arrows):
    """A way along imports that leads back to where it began, or none; each step is a shortest one."""
    ways = [[module]]
    seen = set()
    for way in ways:
        for imported in sorted(arrows.get(way[-1], ())):
            if imported == module:
                return [*way, module]
            if imported not in seen:
                seen.add(imported)
                ways.append([*way, imported])
    return None


def test_no_files_import_each_other_in_a_circle():
    """Imports within functions count: they hide a circle from Python, not from the reader."""
    arrows = arrows_between_files()
    circles = {
        frozenset(circle): " -> ".join(circle) for module in arrows if (circle := circle_from(module, arrows))
    }
    assert list(circles.values()) == []


def test_a_circle_is_found():
    arrows = {"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}, "e": {"e"}}
    assert [circle_from(module, arrows) for module in "abde"] == [
        None,
        ["b", "d", "b"],
        ["d", "b", "d"],
        ["e", "e"],
    ]


def test_nobody_inside_enters_by_the_users_door():
    assert [module for module, targets in arrows_between_files().items() if DOOR in targets] == []


@pytest.mark.parametrize(("package", "rooms"), [("airflow", AIRFLOW_ROOMS), ("pynwb", PYNWB_ROOMS)])
def test_a_library_is_known_to_its_rooms_only(package, rooms):
    knowing = [
        module for module, names in imports().items() if any(name.split(".")[0] == package for name in names)
    ]
    assert [module for module in knowing if room_of(module) not in rooms] == []


def test_only_compat_looks_at_airflows_version():
    looking = [
        module
        for module, file in FILES.items()
        if (source := file.read_text())
        and ("airflow.__version__" in source or "airflow.version" in source or 'version("apache-airflow' in source)
    ]
    assert looking == ["compat"]


# Imports each in turn and tells, as JSON, which of the wanted packages it was the first to load.
LOADER = """
import importlib, json, sys
modules, wanted = json.loads(sys.argv[1])
loaded = {}
for module in modules:
    before = set(sys.modules)
    importlib.import_module(module)
    loaded[module] = sorted({name.partition(".")[0] for name in set(sys.modules) - before} & set(wanted))
print(json.dumps(loaded))
"""


def loaded_in_turn(modules, wanted):
    """Import modules in one new interpreter; return which of the packages each was the first to load."""
    command = [sys.executable, "-c", LOADER, json.dumps([modules, wanted])]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DAGS)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def full_names(modules):
    return [f"{PACKAGE.name}.{module}" for module in modules]


def test_what_dag_files_and_all_of_airflows_processes_import_is_light():
    light = [
        module
        for module, file in FILES.items()
        if room_of(module) in LIGHT_ROOMS or file.relative_to(PACKAGE).as_posix() in LIGHT
    ]
    dag_files = sorted(file.stem for file in DAGS.glob("*.py"))
    # Only the API server serves pages; what Airflow's own plugin manager loads is not ours.
    plugin = [
        f"airflow{'.sdk' if VERSION >= (3, 2) else ''}.plugins_manager",
        *full_names(["plugin.ophys_plugin"]),
    ]
    modules = [*plugin, *full_names(light), *dag_files]
    loaded = loaded_in_turn(modules, [*HEAVY, "fastapi", "jinja2"])
    heavy = {module: packages for module, packages in loaded.items() if set(packages) & set(HEAVY)}
    assert heavy == {}
    assert loaded[plugin[1]] == []
    assert {"operators.imaging", "sensors.acquisition", "triggers.acquisition", "nwb", "acquisition"} <= set(light)


def test_the_work_is_done_without_airflow():
    working = [module for module in FILES if room_of(module) not in AIRFLOW_ROOMS | {"__main__"}]
    loaded = loaded_in_turn(full_names(working), ["airflow"])
    assert {module: packages for module, packages in loaded.items() if packages} == {}
    assert {"nwb.imaging", "writing.pipeline", "report.files", "acquisition.scan", "staging.plan"} <= set(working)


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
