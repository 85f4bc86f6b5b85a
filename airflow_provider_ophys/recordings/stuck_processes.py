"""
An end for a process that HDF5 keeps from doing anything else.

HDF5 reads by itself what links of a file lead to. If a share then loses what was looked at before, it may go round
for ever in a heap (:mod:`airflow_provider_ophys.recordings.hdf5_stream`), and Python neither hears of a signal nor
of a time limit meanwhile. Airflow takes the end of a process for a failure, and tries the task again.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time

# Longer than a share that is only slow takes for one read.
ENDED_AFTER_SECONDS = 600.0
STANDARD_ERROR = 2

_watched: set[int] = set()


def end_if_stuck(seconds: float = ENDED_AFTER_SECONDS) -> None:
    """
    End this process as soon as one call of HDF5 has kept all others waiting for some time, from now on.

    Where Python is at that moment goes to the standard error, and so into the task's log.

    :param seconds: For how long.
    """
    process = os.getpid()
    if process not in _watched:
        _watched.add(process)
        _postpone(seconds)
        threading.Thread(target=_watch, args=(seconds,), name="ophys-stuck", daemon=True).start()


def _postpone(seconds: float) -> None:
    # The time is watched by a thread that needs nothing of Python.
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)


def _watch(seconds: float) -> None:
    from h5py._objects import phil

    while True:
        _postpone(seconds)
        # By this lock h5py has one call at a time, whether other code of Python may run meanwhile or not.
        with phil:
            pass
        time.sleep(seconds / 10)
