"""A task that runs a write operator and treats signals and its time limit as Airflow's task runner does."""

from __future__ import annotations

import json
import signal
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pynwb.ophys  # noqa: F401 -- loaded once, for all tasks
import roiextractors  # noqa: F401
from airflow.sdk.execution_time.timeout import TimeoutPosix
from hdmf_zarr import NWBZarrIO  # noqa: F401

import airflow_provider_ophys.conversion.run
import airflow_provider_ophys.writing.zarr_sink  # noqa: F401
from airflow_provider_ophys.compat import AirflowTaskTimeout
from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator

SUCCEEDED, FAILED, TIMED_OUT, UNEXPECTED = 0, 1, 2, 3
OPERATORS = {"imaging": WriteImagingOperator, "segmentation": WriteSegmentationOperator}


def run_task(operator: str, options: dict[str, Any], report: str, timeout: float | None = None) -> int:
    """
    Run a task: SIGTERM calls ``on_kill()`` and lets ``execute()`` go on, a timeout calls it and raises.

    :param operator: ``"imaging"`` or ``"segmentation"``.
    :param options: The operator's arguments.
    :param report: File for the task's result, or the text of its error.
    :param timeout: Its ``execution_timeout``, in seconds.
    :returns: The exit code of its process.
    """
    task = OPERATORS[operator](task_id="write", **options)
    signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    try:
        with nullcontext() if timeout is None else TimeoutPosix(timeout):
            text, code = json.dumps(task.execute({"outlet_events": {}})), SUCCEEDED
    except AirflowTaskTimeout:
        task.on_kill()
        text, code = "timeout", TIMED_OUT
    except OphysError as error:
        text, code = f"{type(error).__name__}: {error}", FAILED
    except BaseException:  # noqa: BLE001 -- the harness has to see what must never happen
        text, code = traceback.format_exc(), UNEXPECTED
    Path(report).write_text(text)
    return code
