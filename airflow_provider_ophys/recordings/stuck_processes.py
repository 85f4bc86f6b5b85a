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

# When each process, this one and those it forks, asked for it last.
_asked: dict[int, float] = {}


def end_if_stuck(seconds: float = ENDED_AFTER_SECONDS) -> None:
    """
    End this process as soon as one call of HDF5 has kept all others waiting for some time.

    It is watched until no HDF5 file is open in it any more. Where Python is as it ends goes to the standard error,
    and so into the task's log.

    :param seconds: For how long.
    """
    process = os.getpid()
    is_watched = process in _asked
    _asked[process] = time.monotonic()
    if not is_watched:
        _postpone(seconds)
        threading.Thread(target=_watch, args=(seconds,), name="hdf5-watch", daemon=True).start()


def _postpone(seconds: float) -> None:
    # The time is watched by a thread that needs nothing of Python.
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)


def _watch(seconds: float) -> None:
    import h5py
    from h5py._objects import phil

    process, pause, is_needed = os.getpid(), seconds / 10, True
    while is_needed:
        time.sleep(pause)
        # By this lock h5py has one call at a time, whether other code of Python may run meanwhile or not.
        with phil:
            is_open = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) > 0
        # Who has just asked for it has yet to open a file.
        is_needed = is_open or time.monotonic() - _asked[process] < pause
        _postpone(seconds)
    del _asked[process]
    faulthandler.cancel_dump_traceback_later()
