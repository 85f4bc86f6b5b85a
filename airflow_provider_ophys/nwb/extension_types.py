"""Types of devices that extensions of NWB define, such as ndx-miniscope, by name where they are installed."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import pynwb
from hdmf.container import AbstractContainer
from hdmf.utils import get_docval

from airflow_provider_ophys.exceptions import MetadataError

# How the packages of extensions are called, and what no user gives.
EXTENSION = "ndx_"
NOT_GIVEN = frozenset({"model", "skip_post_init"})


def make_of_type(kind: type, type_name: str | None, fields: Mapping[str, Any], **links: Any) -> Any:
    """
    Make a device, or a device model.

    :param kind: ``Device`` or ``DeviceModel``.
    :param type_name: Name of a type that is one of that kind; ``None`` for the kind itself.
    :param fields: What the metadata says of it; a mapping is made into what the type has there.
    :param links: Objects that it refers to.
    :raises MetadataError: If no installed extension has the type, or the fields are not those of the type.
    """
    found = kind if type_name is None else _type_named(type_name, kind)
    where = f"The {kind.__name__} {fields['name']!r} of the type {type_name}"
    return _make(found, {**fields, **{name: link for name, link in links.items() if link is not None}}, where)


def _type_named(name: str, kind: type) -> type:
    for _ in _more_extensions():
        for namespace in pynwb.available_namespaces():
            found = _type_in(namespace, name)
            if found is not None and issubclass(found, kind):
                return found
    raise MetadataError(
        f"No installed extension of NWB has a {kind.__name__} of the type {name!r}. Install the one that has it "
        "where the task runs, for example ndx-miniscope or ndx-ophys-devices, or leave the type out."
    )


def _type_in(namespace: str, name: str) -> type | None:
    try:
        found = pynwb.get_class(name, namespace)
    except ValueError:
        return None
    return found if isinstance(found, type) else None


def _more_extensions() -> Iterator[None]:
    """Stop first with the types that are known, then with those of each package of an extension."""
    yield
    for package in pkgutil.iter_modules():
        if package.name.startswith(EXTENSION):
            try:
                import_module(package.name)
            except Exception as error:
                raise MetadataError(f"The extension {package.name} cannot be imported: {error}.") from error
            yield


def _make(found: type, fields: Mapping[str, Any], where: str) -> Any:
    taken = {argument["name"]: argument["type"] for argument in get_docval(found.__init__)}  # type: ignore[misc]
    if unknown := sorted(set(fields) - set(taken)):
        raise MetadataError(
            f"{where} has no {', '.join(unknown)} (known there: {', '.join(sorted(set(taken) - NOT_GIVEN))})."
        )
    given = {name: _as_type(value, taken[name], f"{name} of {where}") for name, value in fields.items()}
    try:
        return found(**given)
    except (TypeError, ValueError) as error:
        raise MetadataError(f"{where} cannot be made: {error}.") from error


def _as_type(value: Any, wanted: Any, where: str) -> Any:
    """Return a value as a field takes it: a whole number as a float, a mapping as the object that it describes."""
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if isinstance(value, Mapping):
        parts = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, AbstractContainer)]
        if not parts:
            raise MetadataError(f"{where} is a mapping, but is a plain value there.")
        return _make(parts[0], value, where)
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        return float(value)
    return value
