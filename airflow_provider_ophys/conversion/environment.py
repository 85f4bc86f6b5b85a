"""Where a conversion runs: what the platform sets, and what ends the work."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.models.backend import Compression
from airflow_provider_ophys.models.conversion import Conversion
from airflow_provider_ophys.writing.memory import DEFAULT_FRACTION, DEFAULT_LIMIT_BYTES
from airflow_provider_ophys.writing.sharing import Wish


@dataclass(frozen=True)
class Defaults:
    """
    What a platform sets for all conversions that do not say otherwise.

    :param memory_limit: Most bytes in flight.
    :param memory_fraction: Most of the memory that is available, between 0 and 1.
    :param threads: Encoding threads; ``None`` for one per CPU that this process may use.
    :param compression: ``"fast"``, ``"small"`` or ``"none"``.
    :param allowed_roots: Folders that every path has to lead into; none means that all are allowed.
    :param allow_pickle: Whether pickles in a recording may hold more than data, and run what they want.
    :param lock: Whether to keep two writers of one output apart by a lock.
    """

    memory_limit: int = DEFAULT_LIMIT_BYTES
    memory_fraction: float = DEFAULT_FRACTION
    threads: int | None = None
    compression: Compression = "fast"
    allowed_roots: tuple[Path, ...] = ()
    allow_pickle: bool = False
    lock: bool = True

    def wish(self, conversion: Conversion) -> Wish:
        """Return what a conversion would use if it were alone."""
        return Wish(
            memory_limit=conversion.memory_limit,
            default_limit=self.memory_limit,
            fraction=self.memory_fraction,
            threads=conversion.threads or self.threads,
        )


@dataclass(frozen=True)
class Environment:
    """
    What a conversion finds where it runs.

    :param defaults: For what the conversion leaves open.
    :param problems: What is known to be in the way already; nothing is then converted, and all that is found
        besides is told with it.
    :param stop: Set it, from anywhere, to end the conversion; nothing is then published.
    """

    defaults: Defaults = Defaults()
    problems: Sequence[OphysError] = ()
    stop: threading.Event = field(default_factory=threading.Event)
