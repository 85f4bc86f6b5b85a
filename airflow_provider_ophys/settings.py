"""What a platform sets for all conversions, in Airflow's configuration: the section ``[ophys]``, and what maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from pydantic import TypeAdapter, ValidationError

from airflow_provider_ophys.compat import conf
from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.allowed_roots import parse_allowed_roots
from airflow_provider_ophys.models.backend import Compression
from airflow_provider_ophys.models.rendered_options import parse_bytes

if TYPE_CHECKING:
    from airflow_provider_ophys.conversion.environment import Defaults

SECTION = "ophys"


def platform_defaults() -> Defaults:
    """
    Return what conversions go by that do not say otherwise.

    :raises ConfigurationError: If a value is wrong.
    """
    from airflow_provider_ophys.conversion.environment import Defaults

    with _naming_section():
        return Defaults(
            memory_limit=parse_bytes(conf.get(SECTION, "memory_limit", fallback="256MiB")),
            memory_fraction=conf.getfloat(SECTION, "memory_fraction", fallback=0.25),
            threads=conf.getint(SECTION, "threads", fallback=0) or None,
            compression=_known_compression(conf.get(SECTION, "compression", fallback="fast")),
            allowed_roots=_allowed_roots(),
            lock=_known_lock(conf.get(SECTION, "lock", fallback="flock")),
            allow_pickle=conf.getboolean(SECTION, "allow_pickle", fallback=False),
        )


def allowed_roots() -> tuple[Path, ...]:
    """
    Return the folders that paths have to lead into; none means all.

    :raises ConfigurationError: If one is not absolute.
    """
    with _naming_section():
        return _allowed_roots()


def report_roots() -> dict[str, tuple[str, ...]]:
    """
    Return which places the web UI shows reports of to some DAGs only.

    :returns: By folder or ``s3://bucket/prefix``, to whom: ``team:<name>``, or the id of a DAG, which may have
        ``*`` in it.
    :raises ConfigurationError: If it is no such table.
    """
    text = conf.get(SECTION, "report_roots", fallback="") or "{}"
    try:
        return TypeAdapter(dict[str, tuple[str, ...]]).validate_json(text)
    except ValidationError as error:
        raise ConfigurationError(
            f"report_roots in the section [{SECTION}] of Airflow's configuration is wrong. Write JSON, such as "
            '{"/data/nwb/lab_a": ["team:lab_a", "lab_a_*"]}.'
        ) from error


def max_map_length() -> int:
    """
    Return how many items a task is mapped over at most: Airflow's ``[core] max_map_length``.

    Airflow fails the task that returns a longer list, after it has done its work. The API server decides, so
    workers and the triggerer must be configured alike.

    :raises ConfigurationError: If it lets nothing be mapped.
    """
    most = conf.getint("core", "max_map_length", fallback=1024)
    if most < 1:
        raise ConfigurationError(
            f"[core] max_map_length of Airflow's configuration is {most}, so no task can be mapped. "
            f"Set it to 1 or more."
        )
    return most


@contextmanager
def _naming_section() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            f"The section [{SECTION}] of Airflow's configuration is wrong: {error}"
        ) from error


def _allowed_roots() -> tuple[Path, ...]:
    return parse_allowed_roots(conf.get(SECTION, "allowed_roots", fallback=""))


def _known_compression(value: str) -> Compression:
    if value not in get_args(Compression):
        raise ValueError(f"compression is {value!r}; write one of {', '.join(get_args(Compression))}")
    return cast("Compression", value)


def _known_lock(value: str) -> bool:
    if value not in ("flock", "none"):
        raise ValueError(f"lock is {value!r}; write 'flock' or 'none'")
    return value == "flock"
