"""The fenced blocks of the pages, and what is said of how they are tested."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
# An optional comment stands in the line before: why a block cannot be run here, or which tests run it.
FENCED = re.compile(
    r"(?:<!-- (?P<mark>not run|tested): (?P<said>[^\n]*) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """
    A fenced block of a page.

    :param mark: ``"not run"``, with the reason in ``said``; ``"tested"``, with the file of the tests; or None.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str | None
    said: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCED.finditer(text):
        line = text[: found.start("language")].count("\n") + 1
        yield Block(page, line, found["language"], found["text"], found["mark"], found["said"])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def blocks_in(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]
