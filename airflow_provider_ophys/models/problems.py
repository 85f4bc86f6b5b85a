"""Errors that are gathered, so that all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from airflow_provider_ophys.exceptions import OphysError, PreflightError


class Problems:
    """
    Gathers errors.

    :param found: Those that are known already.
    """

    def __init__(self, found: Iterable[OphysError] = ()) -> None:
        self._found = list(found)

    def __bool__(self) -> bool:
        return bool(self._found)

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Take an :class:`OphysError` of the block and go on after it, but for one that begins as a known one."""
        try:
            yield
        except OphysError as error:
            if not any(str(error).startswith(str(known)) for known in self._found):
                self._found.append(error)

    def take(self, others: Problems) -> None:
        """Take over what others gathered."""
        self._found.extend(others._found)

    def raise_found(self) -> None:
        """
        Raise what was gathered, if anything.

        :raises OphysError: The error itself, if there is one.
        :raises PreflightError: All of them, if there are several.
        """
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise PreflightError.of(self._found)
