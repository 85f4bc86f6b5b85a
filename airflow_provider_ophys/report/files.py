"""The files of a report, beside the NWB file: made in memory, written beside and moved into place."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow_provider_ophys.models.result import REPORT_SUFFIXES, Report
from airflow_provider_ophys.nwb.contents import open_contents
from airflow_provider_ophys.report.concerns import concerns
from airflow_provider_ophys.report.facts import gather_facts, subtitle
from airflow_provider_ophys.report.figure import draw_report, draw_thumbnail, pixel_pictures, to_png
from airflow_provider_ophys.report.page import make_page
from airflow_provider_ophys.report.survey import look_at
from airflow_provider_ophys.writing.sharing import Resources
from airflow_provider_ophys.writing.statistics_file import load_statistics

log = logging.getLogger(__name__)

# Where the PNG keeps the summary, and what it was made from.
SUMMARY_KEY, MADE_FROM_KEY = "airflow_provider_ophys", "airflow_provider_ophys_source"


def write_report(
    source: Any,
    folder: Path,
    name: str,
    resources: Resources,
    *,
    sample: int | None = None,
    statistics: Path | None = None,
    size_bytes: int | None = None,
    result: Mapping[str, Any] | None = None,
    made_from: str = "",
) -> Report:
    """
    Write the report of an NWB file: ``<name>.report.html``, ``.report.png`` and ``.report.thumbnail.png``.

    :param source: As for :func:`airflow_provider_ophys.nwb.contents.open_contents`.
    :param folder: Where the report goes; it must exist.
    :param name: Of the NWB file.
    :param resources: What it may use of this machine.
    :param sample: Most bytes to read of each movie, uncompressed; default: every frame.
    :param statistics: File with what was found while the movies were written, which are then not read again.
    :param size_bytes: Of the NWB file.
    :param result: What the write operator returned.
    :param made_from: Tells this file from others, for :func:`find_report`.
    """
    with open_contents(source) as contents:
        known = None if statistics is None else load_statistics(statistics)
        seen = look_at(contents, resources, sample_limit=sample, known=known)
        line = subtitle(contents, seen, size_bytes)
        facts = gather_facts(contents, seen, size_bytes=size_bytes, result=result or {})
        summary = seen.summary() | {"concerns": (concerned := concerns(contents, result or {}))}
        texts = {SUMMARY_KEY: json.dumps(summary), MADE_FROM_KEY: made_from}
        png = to_png(draw_report(seen, title=name, subtitle=line), texts)
        thumbnail = to_png(draw_thumbnail(seen), {})
        pictures = pixel_pictures(seen)
    page = make_page(seen, facts, png, title=name, subtitle=line, concerns=concerned, pictures=pictures)
    # The PNG comes last: it says that the others are there.
    for kind, content in (("thumbnail", thumbnail), ("html", page.encode()), ("png", png)):
        _put(folder / f"{name}{REPORT_SUFFIXES[kind]}", content)
    return _report(folder, name, summary)


def find_report(folder: Path, name: str, made_from: str) -> Report | None:
    """Return the report that was made of this very file before; ``None`` if it is not there whole."""
    from PIL import Image

    try:
        with Image.open(folder / f"{name}{REPORT_SUFFIXES['png']}") as picture:
            texts = picture.info
        if texts.get(MADE_FROM_KEY) != made_from or not all(
            (folder / f"{name}{suffix}").is_file() for suffix in REPORT_SUFFIXES.values()
        ):
            return None
        return _report(folder, name, json.loads(texts[SUMMARY_KEY]))
    except (OSError, KeyError, ValueError):
        return None


def _report(folder: Path, name: str, summary: dict[str, Any]) -> Report:
    paths = {kind: str(folder.absolute() / f"{name}{suffix}") for kind, suffix in REPORT_SUFFIXES.items()}
    return Report(**paths, summary=summary)


def _put(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
