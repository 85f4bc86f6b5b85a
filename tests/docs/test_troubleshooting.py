"""Every message in docs/troubleshooting.md is one that the code has."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from page_blocks import ROOT

TEXT = (ROOT / "docs/troubleshooting.md").read_text()
# What stands in the code where a message has a value.
VALUE = "\0"


@cache
def texts_of_the_code():
    """Every text in the package, with one character for each value that is put into it."""
    return set(_texts())


def _texts():
    for file in (ROOT / "airflow_provider_ophys").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in node.values]
                yield " ".join("".join(parts).split())
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield " ".join(re.sub(r"\{\w+\}", VALUE, node.value).split())


def messages():
    rows = re.findall(r"^\| (?:The tab Report says )?`([^`]+)` \|", TEXT, flags=re.MULTILINE)
    return [row for row in rows if not row.startswith("[")]


@pytest.mark.parametrize("message", messages())
def test_a_message_is_in_the_code(message):
    parts = [part.strip() for part in message.split("…")]
    assert any(are_in_order(parts, text) for text in texts_of_the_code()), message


def are_in_order(parts, text):
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def test_there_are_many():
    assert len(messages()) > 45
