"""Whether a file that was just written is what it should be, before it appears at its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
from hdmf.build import BuildManager, GroupBuilder, TypeMap
from hdmf.spec import NamespaceCatalog, SpecCatalog
from hdmf.validate import ValidatorMap
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespace

from airflow_provider_ophys.conversion.datasets import BulkDataset
from airflow_provider_ophys.conversion.storages import Storage
from airflow_provider_ophys.exceptions import InvalidOutputError

OWN_SCHEMAS = {"core", "hdmf-common", "hdmf-experimental"}

# The first and the last row, and some between: each costs reading one chunk again.
SAMPLED_ROWS = 5

# What is so small is read from the file once, and not chunk by chunk for each row.
SMALL_BYTES = 4 * 2**20


def make_ready() -> None:
    """Make once for this process, and for those that are forked from it, what validates files."""
    _own_schema()
    _own_versions()


def check_schema(storage: Storage, part: Path, before: Path | None = None) -> None:
    """
    Open a file anew and validate it against the NWB schema.

    :param before: What it was before something was added: what was wrong in it then is not counted.
    :raises InvalidOutputError: If it does not fit.
    """
    problems = _problems(storage, part)
    if problems and before is not None:
        problems = list((Counter(problems) - Counter(_problems(storage, before))).elements())
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InvalidOutputError(
            f"The file that was written does not fit the NWB schema ({len(problems)} problem(s)); it was not "
            f"published:\n{listed}"
        )


def _problems(storage: Storage, path: Path) -> list[str]:
    types = _own_types()
    if not _has_own_schemas(storage, path):
        types = _types_in(storage, path) or types
    # The schemas in a file are mostly those that are loaded; reading them again is most of the work.
    schema = _own_schema() if types is _own_types() else _schema_of(types)
    with storage.io(path, "r", load_namespaces=False, manager=BuildManager(types)) as io:
        return list(map(str, schema.validate(_with_records(io.read_builder()))))


def _types_in(storage: Storage, path: Path) -> TypeMap | None:
    """Return the types by the schemas that a file holds; ``None`` if it holds none, as old ones do."""
    catalog = NamespaceCatalog(NWBGroupSpec, NWBDatasetSpec, NWBNamespace)
    with storage.io(path, "r", load_namespaces=False) as io:
        io.load_namespaces(namespace_catalog=catalog, file=io._file)  # noqa: SLF001 - as pynwb.validate does
    return TypeMap(namespaces=catalog) if catalog.namespaces else None


def _schema_of(types: TypeMap) -> ValidatorMap:
    """
    Return what validates against NWB's schema and those of all extensions together.

    pynwb validates against one extension after the other, for each of which the devices of the others are none.
    """
    together = SpecCatalog()
    catalog = types.namespace_catalog
    for name in sorted(set(catalog.namespaces) - {"hdmf-experimental"}):
        namespace = catalog.get_namespace(name)
        for data_type in namespace.get_registered_types():
            if together.get_spec(data_type) is None:
                together.register_spec(namespace.get_spec(data_type), "in the file")
    version = catalog.get_namespace("core")["version"]
    return ValidatorMap(NWBNamespace("All.", "core", [{"namespace": "core"}], version=version, catalog=together))


def _with_records(builder: GroupBuilder) -> GroupBuilder:
    """
    Put a record into each dataset of records that has none.

    hdmf learns the types of the fields from the first one, and fails on masks without pixels.
    """
    for dataset in builder.datasets.values():
        dtype = getattr(dataset.data, "dtype", None)
        if getattr(dtype, "names", None) and dataset.data.shape == (0,):
            dict.__setitem__(dataset, "data", np.zeros(1, dtype))
    for group in builder.groups.values():
        _with_records(group)
    return builder


def _has_own_schemas(storage: Storage, part: Path) -> bool:
    """Tell whether a file has just the schemas of this process: no extensions, no other versions."""
    with storage.open_groups(part, "r") as root:
        schemas = root.get("specifications", {})
        cached = {name: list(schemas[name]) for name in schemas}
    return bool(cached) and all(
        name in OWN_SCHEMAS and versions == [_own_versions()[name]] for name, versions in cached.items()
    )


@cache
def _own_types() -> TypeMap:
    """Return NWB's types, only to look at; pynwb makes a copy for everyone who asks."""
    return pynwb.get_type_map()


@cache
def _own_versions() -> dict[str, str]:
    catalog = _own_types().namespace_catalog
    return {name: catalog.get_namespace(name)["version"] for name in OWN_SCHEMAS}


@cache
def _own_schema() -> ValidatorMap:
    """Return what validates against NWB's core schema; making it takes longer than validating."""
    return ValidatorMap(_own_types().namespace_catalog.get_namespace("core"))


def compare_samples(
    storage: Storage, part: Path, datasets: Sequence[BulkDataset], more_rows: Sequence[int] = ()
) -> None:
    """
    Open a file anew and compare samples of its arrays with what they were filled from, but for rounded ones.

    :param more_rows: Of each array, besides the first, the last and some between.
    :raises InvalidOutputError: If a sample is not what the source gives.
    """
    with storage.open_groups(part, "r") as root:
        for dataset in datasets:
            if storage.is_lossy(dataset):
                continue
            last = dataset.source.maxshape[0] - 1
            spread = {last * step // (SAMPLED_ROWS - 1) for step in range(SAMPLED_ROWS)}
            _compare_rows(dataset, root[dataset.path], sorted(spread.union(more_rows)))


def _compare_rows(dataset: BulkDataset, stored: Any, rows: Sequence[int]) -> None:
    if dataset.num_bytes <= SMALL_BYTES:
        stored = stored[:]
    for row in rows:
        wanted, found = np.asarray(dataset.source.read(row, row + 1)), np.asarray(stored[row : row + 1])
        if not np.array_equal(wanted, found, equal_nan=wanted.dtype.kind == "f"):
            raise InvalidOutputError(
                f"Row {row} of {dataset.location} is not what the recording holds: {np.sum(wanted != found)} of "
                f"{wanted.size} values differ. Nothing was published; try again, and check memory and disk of "
                "this machine if it happens twice."
            )
