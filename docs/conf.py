"""
The documentation as a site, by Sphinx: ``make docs`` builds it into ``site/``, and fails for what leads nowhere.

The pages are Markdown that can be read where it is. The documents at the repository's root are pages of the site
too: the files of ``ROOT_DOCUMENTS`` only lead to them, and are replaced by them here.
"""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
ROOT_DOCUMENTS = {
    "index": "README.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
    "changelog": "CHANGELOG.md",
}

project = "airflow-provider-ophys"
version = release = version_of(project)
project_copyright = "the authors of airflow-provider-ophys, Apache License 2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["*.py"]

# Headings are addressed as on the pages of a repository.
myst_heading_anchors = 4
# Options are in the order of the code, with the types beside what is said of them.
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# Nothing on the pages is loaded from elsewhere: they work in a closed network too.
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Put the root's documents in place of the pages that lead to them."""
    app.connect("source-read", _read)


def _read(app: Sphinx, name: str, source: list[str]) -> None:  # noqa: ARG001 -- Sphinx calls it so
    if document := ROOT_DOCUMENTS.get(name):
        text = (ROOT / document).read_text().replace("](docs/", "](")
        _, _, rest = source[0].partition("<!-- the site's contents -->\n")
        source[0] = re.sub(r"\]\(([A-Z]+\.md)", r"](../\1", text) + "\n" + rest
    pages = {document: f"{page}.md" for page, document in ROOT_DOCUMENTS.items()}
    source[0] = re.sub(r"\]\(\.\./([A-Z]+\.md)", lambda link: f"]({pages[link[1]]}", source[0])
