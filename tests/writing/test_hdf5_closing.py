"""What HDF5 cannot write when an object is closed is an error, in the thread that wrote it and in no other."""

from __future__ import annotations

import sys
import threading

import pytest

from airflow_provider_ophys.writing.hdf5_closing import raising_failed_closings


def raise_unraisable(about):
    """Have Python report an error as it does one of a deletion in h5py."""
    sys.unraisablehook(
        type("Unraisable", (), {"exc_type": RuntimeError, "exc_value": RuntimeError("lost"), "object": about})()
    )


def test_others_errors_go_where_they_went_before(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: heard.append(unraisable.object))
    before = sys.unraisablehook
    deletion = "h5py._objects.ObjectID.__dealloc__"
    with raising_failed_closings():
        raise_unraisable("somebody's __del__")
        other = threading.Thread(target=raise_unraisable, args=[deletion])
        other.start()
        other.join()
    assert heard == ["somebody's __del__", deletion]
    assert sys.unraisablehook is before
    with pytest.raises(RuntimeError, match="lost"), raising_failed_closings():
        raise_unraisable(deletion)
    assert sys.unraisablehook is before


def test_the_error_that_ends_the_block_is_the_one_that_is_raised():
    with pytest.raises(ValueError, match="first"), raising_failed_closings():
        raise_unraisable("h5py._objects.ObjectID.__dealloc__")
        raise ValueError("first")
