"""MATLAB files of version 5 are read as SciPy reads them, and damaged ones end in an error, not the process."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.mat_file import read_mat_file

LONG_AGO = 1_700_000_000
CONTENT = {
    "number": 2.5,
    "texts": "Nikon µ",
    "table": np.arange(12, dtype="int16").reshape(3, 4),
    "empty": np.empty(0),
    "flag": True,
    "struct": {"inner": {"lines": 512, "name": "x"}, "cell": np.array([{"a": 1}, "b"], dtype=object)},
    "complex": np.array([1 + 2j]),
}


@pytest.mark.parametrize("do_compression", [False, True])
def test_a_file_is_read_as_scipy_reads_it(tmp_path, do_compression):
    savemat(tmp_path / "a.mat", CONTENT, do_compression=do_compression)
    found, expected = read_mat_file(tmp_path / "a.mat"), loadmat(tmp_path / "a.mat", squeeze_me=True)
    assert found.keys() == CONTENT.keys()
    assert found["number"] == 2.5
    assert found["texts"] == expected["texts"] == "Nikon µ"
    np.testing.assert_array_equal(found["table"], expected["table"])
    assert found["struct"]["inner"]["lines"] == 512
    assert found["struct"]["inner"]["name"] == "x"
    assert found["struct"]["cell"] is None
    assert found["empty"].size == 0


@pytest.mark.parametrize("keep", [0, 100, 140, 300, -8])
def test_a_file_that_was_cut_off_is_refused(tmp_path, keep):
    savemat(tmp_path / "a.mat", CONTENT)
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[:keep])
    os.utime(tmp_path / "a.mat", (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match=r"a\.mat is not whole"):
        read_mat_file(tmp_path / "a.mat")


def test_every_damaged_byte_gives_an_error_of_ours_or_none(tmp_path):
    savemat(tmp_path / "a.mat", {"info": {"lines": 512, "sz": np.array([3, 4]), "config": {"name": "x"}}})
    content = (tmp_path / "a.mat").read_bytes()
    for place in range(120, len(content)):
        for value in (0, 1, 0x7F, 0xFF):
            (tmp_path / "a.mat").write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                read_mat_file(tmp_path / "a.mat")
            except SourceDataError as error:
                assert "a.mat" in str(error)  # noqa: PT017 - of those that raise
