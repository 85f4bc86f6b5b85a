"""The report of a conversion that just ended: whatever becomes of it, the conversion has succeeded."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from airflow_provider_ophys.conversion.movie_statistics import STATISTICS_SUFFIX
from airflow_provider_ophys.models.result import ConversionResult
from airflow_provider_ophys.report.files import find_report, write_report
from airflow_provider_ophys.writing.sharing import Wish, sharing

log = logging.getLogger(__name__)


def with_report[Result: ConversionResult](result: Result, wish: Wish, stop: threading.Event) -> Result:
    """
    Write the report of what was converted, beside it, and name it in the result.

    The report of an unchanged file is not made again. What goes wrong is logged as a warning, and said in the
    result: ``report`` is then ``None`` and ``report_problem`` tells why.

    :param result: Of the conversion.
    :param wish: What it may use of this machine, which it shares with the conversions that run meanwhile.
    :param stop: Set it, from anywhere, to do without a report.
    """
    path = Path(result.nwbfile_path)
    started = time.monotonic()
    try:
        made_from = _identity(path)
        report = find_report(path.parent, path.name, made_from)
        if report is None:
            with sharing(wish, stop) as resources:
                report = write_report(
                    path,
                    path.parent,
                    path.name,
                    resources,
                    statistics=path.with_name(path.name + STATISTICS_SUFFIX),
                    size_bytes=result.size_bytes,
                    result=result.to_json(),
                    made_from=made_from,
                )
    except Exception as error:
        log.warning("The report of %s could not be made; the file itself is fine.", path, exc_info=True)
        return result.model_copy(update={"report_problem": f"{type(error).__name__}: {error}"})
    durations = result.durations | {"report": round(time.monotonic() - started, 3)}
    return result.model_copy(update={"report": report, "durations": durations})


def _identity(path: Path) -> str:
    """Tell one state of a file or store from another: every publishing makes a new one."""
    status: Any = path.stat()
    return f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}"
