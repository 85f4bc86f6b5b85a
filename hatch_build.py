"""What the package's page on an index shows: the README, whose links lead to the project's home from there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)#]*)(?P<heading>#[^)]*)?\)")


class IndexPage(MetadataHookInterface):
    """
    Adds the README and, where the project's home is known, the project's addresses.

    The home is ``home`` in pyproject.toml, the address of the repository's files, to which the links of the README
    are relative. Without it, what would lead nowhere is no link.
    """

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add them to the metadata of the package."""
        home = str(self.config.get("home", "")).rstrip("/")
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": with_absolute_links(readme, home)}
        if home:
            pages = {"Documentation": "docs/install.md", "Changelog": "CHANGELOG.md", "Security": "SECURITY.md"}
            metadata["urls"] = {"Source": home} | {name: f"{home}/{page}" for name, page in pages.items()}


def with_absolute_links(text: str, home: str) -> str:
    """Make the relative links of a Markdown text absolute, or plain text if there is no home to lead to."""

    def absolute(link: re.Match[str]) -> str:
        target, heading = link["target"], link["heading"] or ""
        if not target or re.match(r"[a-z]+:", target):
            return link[0]
        return f"[{link['text']}]({home}/{target}{heading})" if home else link["text"]

    return LINK.sub(absolute, text)
