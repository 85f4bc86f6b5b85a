"""What docs/sessions.md and docs/python.md show of sessions and commands works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from airflow_provider_ophys.sessions.session_yaml import operator_options, read_session_yaml
from airflow_provider_ophys.terminal.commands import app

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "sessions.md").read_text()
PYTHON = (ROOT / "docs" / "python.md").read_text()
COMMANDS = typer.main.get_command(app).commands


def test_the_session_file_is_read(tmp_path):
    (shown,) = re.findall(r"```yaml\n(.*?)```", DOCS, flags=re.DOTALL)
    (tmp_path / "session.yaml").write_text(shown)
    session = read_session_yaml(tmp_path)
    imaging = operator_options(session.imaging)
    assert [each["channel_name"] for each in imaging["extractor_kwargs"]] == ["Green", "Far"]
    assert operator_options(session.segmentation)["mask_type"] == "pixel"


@pytest.mark.parametrize("text", [DOCS, PYTHON], ids=["docs/sessions.md", "docs/python.md"])
def test_the_commands_take_what_is_shown(text):
    shown = re.findall(r"^python -m airflow_provider_ophys ((?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
    assert [shlex.split(line)[0] for line in shown] == ["describe", "convert", "repair"]
    for line in shown:
        name, *arguments = [word for word in shlex.split(line.replace("\\\n", "")) if word]
        COMMANDS[name].make_context(name, arguments)


def test_every_option_that_is_named_is_one_of_a_command():
    parameters = [each for command in COMMANDS.values() for each in command.params]
    known = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
    named = set(re.findall(r"`(--[a-z-]+)", DOCS))
    assert {"--json", "--planes", "--root", "--metadata"} <= named <= known
