"""What dandi-cli finds in what the demonstration staged ends it, also where dandi-cli itself ends with 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.dandi import DandiError, validate

DANDI = Path(__file__).parents[2] / ".venv-dandi/bin/dandi"
SAID = {
    "an error": ("[NWBI.x] sub-1.nwb: wrong", 1),
    "a warning": ("[NWBI.check_data_orientation] sub-1.nwb: may be\nNo errors found.", 0),
    "nothing": ("", 0),
}


def dandi_that_says(folder: Path, text: str, code: int) -> Path:
    script = folder / "dandi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(("text", "code"), SAID.values(), ids=SAID)
def test_whatever_is_found_is_an_error(tmp_path: Path, text: str, code: int) -> None:
    with pytest.raises(DandiError, match=rf"(?s)ended with {code}:.*{text[:8].replace('[', '.')}"):
        validate(tmp_path, dandi_that_says(tmp_path, text, code))


def test_nothing_found_is_told(tmp_path: Path) -> None:
    assert validate(tmp_path, dandi_that_says(tmp_path, "No errors found.", 0)) == "No errors found."


@pytest.mark.skipif(not DANDI.exists(), reason="make dandi builds an environment with dandi-cli")
def test_the_real_one_finds_what_is_no_nwb_file(tmp_path: Path) -> None:
    (tmp_path / "dandiset.yaml").write_text("identifier: '000000'\nname: One file\n")
    (tmp_path / "sub-1").mkdir()
    (tmp_path / "sub-1" / "sub-1.nwb").write_bytes(b"no HDF5")
    with pytest.raises(DandiError, match=r"sub-1\.nwb"):
        validate(tmp_path, DANDI)
