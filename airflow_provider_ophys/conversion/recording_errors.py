"""Errors about recordings: of their content, or of the disk or share that they lie on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from traceback import walk_tb

from airflow_provider_ophys.exceptions import (
    MemoryBudgetError,
    OphysError,
    SourceAccessError,
    SourceDataError,
    SourceNotFoundError,
    causes,
    unreadable,
)
from airflow_provider_ophys.recordings import Recording

OURS = "airflow_provider_ophys"
ROOMS = ("recordings", "extractors", "mended_extractors", "opened_recordings")
READERS = ("roiextractors", *(f"{OURS}.{room}" for room in ROOMS))


@contextmanager
def naming_recordings(recordings: Sequence[Recording]) -> Iterator[None]:
    """
    Name the recordings in errors about them, and turn what a library says into one.

    :raises SourceDataError: Of the same kind as within, or for an error that is none of ours.
    """
    recording = "; ".join(each.describe() for each in recordings)
    try:
        yield
    except (SourceDataError, SourceAccessError) as error:
        if not error.retryable:
            _check_access(recordings)
        if any(str(path) in str(error) for each in recordings for path in each.paths.values()):
            raise
        raise type(error)(f"{error} Recording: {recording}.") from error
    except MemoryError as error:
        if isinstance(error, OphysError):
            raise
        raise MemoryBudgetError(
            f"There was not enough memory for {recording}: {error}. Lower memory_limit or run fewer tasks."
        ) from error
    except OphysError:
        raise
    except Exception as error:
        what_to_do = (
            "Check that the files are complete and of this extractor's format."
            if _arose_in_a_reader(error)
            else "No reader was at work, so the files may be sound: check the options and the metadata. If they "
            "are right, report this with the task's log."
        )
        raise unreadable(
            f"{', '.join(each.extractor for each in recordings)} cannot be converted ({recording}): "
            f"{type(error).__name__}: {error}. {what_to_do}",
            error,
        ) from error


def _arose_in_a_reader(error: BaseException) -> bool:
    """Tell whether a reader was at work when an error was raised, by the calls that led to it."""
    frames = (frame for cause in causes(error) for frame, _ in walk_tb(cause.__traceback__))
    return any(str(frame.f_globals.get("__name__")).startswith(READERS) for frame in frames)


def _check_access(recordings: Sequence[Recording]) -> None:
    """
    Check that what seems to be wrong with recordings is not only that their share fails.

    :raises SourceAccessError: If it does.
    """
    for recording in recordings:
        with suppress(SourceDataError, SourceNotFoundError):
            recording.check_access()
