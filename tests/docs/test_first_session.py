"""Who follows docs/first-session.md from top to bottom gets what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from page_blocks import ROOT, blocks_of


def test_the_steps_work_one_after_the_other(tmp_path, capsys, monkeypatch):
    steps = [block for block in blocks_of(ROOT / "docs/first-session.md") if "make " not in block.text]
    assert [step.language for step in steps] == ["bash", "bash", "yaml", "bash", "python"]
    first = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    python = os.environ | {"PYTHONPATH": str(ROOT), "PATH": first}
    shown = ""
    for step in steps:
        if step.language == "bash":
            done = subprocess.run(
                ["bash", "-ec", step.text], cwd=tmp_path, env=python, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            shown += done.stdout
    assert "TwoPhotonSeries" in shown
    assert "m1.nwb" in shown
    assert (tmp_path / "m1.nwb.report.html").exists()
    monkeypatch.chdir(tmp_path)
    exec(steps[-1].text, {"__name__": "first_session"})
    printed = capsys.readouterr().out
    assert "30.0" in printed
    assert "12 ROIs" in printed
