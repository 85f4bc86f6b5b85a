"""Naming what is mapped after its session in Airflow's lists, where there are only numbers otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow.sdk import BaseOperator

TEMPLATE = "{{ task.session_name }}"
# Airflow's database takes no more than 250 characters.
LONGEST_NAME = 200
SUFFIXES = (".zarr", ".nwb", ".h5", ".hdf5")


class NamedOperator(BaseOperator):
    """
    An operator whose ``map_index_template`` is the name of its session, unless the user gives one.

    :param map_index_template: As of any operator in Airflow.
    """

    # Which of the operator's options tell it, the first that does: a path, or a mapping with a name or a path.
    named_after: ClassVar[tuple[str, ...]]

    def __init__(self, *, map_index_template: str | None = None, **kwargs: Any) -> None:
        super().__init__(map_index_template=map_index_template or TEMPLATE, **kwargs)

    @classmethod
    def partial(cls, *, map_index_template: str | None = None, **kwargs: Any) -> Any:
        """Keep options for a mapped task; Airflow takes the template from these, and makes no instance before."""
        return super().partial(map_index_template=map_index_template or TEMPLATE, **kwargs)

    @property
    def session_name(self) -> str:
        """The name of the session, or of its file; empty if that is not known."""
        names = (_name_in(getattr(self, option, None)) for option in self.named_after)
        return next(filter(None, names), "")[:LONGEST_NAME]


def _name_in(told: object) -> str:
    if isinstance(told, (str, os.PathLike)):
        name = os.fspath(told).rstrip("/").rpartition("/")[2]
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
        return name
    if not isinstance(told, Mapping):
        return ""
    if isinstance(told.get("name"), str):
        return str(told["name"])
    # What tasks return, and the plan of several tasks.
    inside = (told.get(key) for key in ("session", "path", "nwbfile_path", "source", "s3_uri", "conversion"))
    return next((name for one in inside if (name := _name_in(one))), "")
