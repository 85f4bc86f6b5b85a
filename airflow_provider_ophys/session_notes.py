"""
What a task tells of its sessions, where it lasts: an XCom of its own, which the page "Ophys" reads.

Airflow keeps what a task was told (its rendered fields) for thirty runs, and of an error only a log. So each task
of ours leaves a note as soon as it starts and another when it ends, under one key, also when it fails.
"""

from __future__ import annotations

import functools
import logging
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_ophys.compat import AirflowSkipException, AirflowTaskTimeout
from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.models.session_note import SessionNote

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

log = logging.getLogger(__name__)

# The keys of the XComs: of the notes, and of a picture for them.
KEY, THUMBNAIL_KEY = "ophys_session", "ophys_thumbnail"
# As wide as Airflow shows a log beside the list of tasks.
LOG_COLUMNS = 100

type Execute = Callable[[Any, Context], Any]
type Step = Literal["arrive", "describe", "convert", "plan", "fill", "report", "stage"]


def leaves_notes(step: Step, *, unless: Callable[[Any], bool] = lambda _: False) -> Callable[[Execute], Execute]:
    """
    Have an operator's ``execute`` leave notes on its session: at its start, and of its result or its error.

    An error of ours is then raised without the errors that it came from and their frames, and repeated at the end
    of the log, which Airflow shows first.

    :param step: Which step of a session the operator takes.
    :param unless: Tells of an operator, when it runs, that it takes no step and leaves no notes.
    """

    def decorate(execute: Execute) -> Execute:
        @functools.wraps(execute)
        def noting(operator: BaseOperator, context: Context) -> Any:
            note = SessionNote.of_options(step, vars(operator))
            leave = leave_notes if not unless(operator) else _leave_none
            leave(operator, context, [note])
            try:
                result = execute(operator, context)
            except AirflowSkipException:
                raise
            except OphysError as error:
                leave(operator, context, [note.with_error(str(error))])
                _end_the_log_with(operator, error, context.get("ti"))
                raise error.with_traceback(None) from None
            except (Exception, AirflowTaskTimeout) as error:
                leave(operator, context, [note.with_error(f"{type(error).__name__}: {error}")])
                raise
            leave(operator, context, [note.with_result(result, getattr(operator, "written_subject", {}))])
            return result

        return noting

    return decorate


def _leave_none(_operator: BaseOperator, _context: Context, _notes: Iterable[SessionNote]) -> None:
    """Of an operator that only says what it would do."""


def leave_notes(operator: BaseOperator | None, context: Context, notes: Iterable[SessionNote]) -> None:
    """
    Leave notes in the XCom of the running task, in place of those that it left before; that never fails the task.

    :param operator: The task; nothing is left where its ``do_xcom_push`` is false.
    """
    push(operator, context, KEY, {"sessions": [note.to_json() for note in notes]})


def tell_batch(context: Context, root: Path, outcomes: Sequence[Mapping[str, Any]]) -> None:
    """
    Leave notes on many sessions that one task converts.

    :param root: Of the archive.
    :param outcomes: What became of each: see :func:`airflow_provider_ophys.conversion.archive.convert_batch`.
    """
    notes = [
        SessionNote(
            step="convert",
            folder=str(root / outcome["session"]),
            name=outcome["session"],
            nwbfile_path=outcome.get("nwbfile_path"),
            size_bytes=outcome.get("size_bytes"),
            seconds=outcome.get("seconds"),
            subject=outcome.get("subject_id"),
            valid=outcome.get("validation"),
            speed=outcome.get("throughput_mb_per_s"),
            reused=outcome["state"] == "reused",
            done=outcome["state"] != "failed",
        )
        for outcome in outcomes
    ]
    pairs = zip(notes, outcomes, strict=True)
    leave_notes(None, context, [note.with_error(one["why"]) if "why" in one else note for note, one in pairs])


def push(operator: BaseOperator | None, context: Context, key: str, value: Any) -> None:
    """Push an XCom that only people look at."""
    if "ti" not in context or (operator is not None and not operator.do_xcom_push):
        return
    try:
        context["ti"].xcom_push(key=key, value=value)
    except Exception as error:  # noqa: BLE001 -- a task must not fail for what only people look at
        # As when Airflow has given the task up meanwhile.
        log.warning("The page Ophys will not know of this task: its XCom %s was not taken: %s", key, error)


def _end_the_log_with(operator: BaseOperator, error: OphysError, instance: object) -> None:
    """Have the message of an error, wrapped, in what Airflow logs of a failure, and repeated after that."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    message = wrapped(str(error))
    # Who calls an operator without Airflow gets the message as it is.
    if isinstance(instance, RuntimeTaskInstance):
        error.args = (message,)

    def repeat(context: Mapping[str, Any]) -> None:  # noqa: ARG001 -- Airflow calls it so
        log.error("%s", message)

    for kind in ("on_failure_callback", "on_retry_callback"):
        setattr(operator, kind, [*(getattr(operator, kind, None) or ()), repeat])


def wrapped(message: str) -> str:
    """Wrap each line of a message that is too wide for Airflow's view of a log; no path is broken."""
    lines = []
    for line in message.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line, LOG_COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)
