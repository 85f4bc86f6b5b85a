"""A session as tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from airflow_provider_ophys.models.session import Session, SessionMovie, SessionSegmentation
from airflow_provider_ophys.sessions.layers import ASSUMED, leaves

LONGEST_VALUE = 120
MOST_FILES = 10


def print_session(console: Console, session: Session) -> None:
    """
    Print what would be converted, each fact of the metadata with its source, and the remarks as warnings.

    :param console: Its width is that of the tables.
    """
    recordings = _table(f"{session.name}: what is converted", "name", "recording", "extractor", "what it is")
    parts: list[SessionMovie | SessionSegmentation] = [*session.imaging, *session.segmentation]
    for part in parts:
        recordings.add_row(
            *map(escape, (part.name, part.recording, part.extractor.removesuffix("Extractor"), _facts(part)))
        )
    console.print(recordings)
    metadata = _table("Metadata", "field", "value", "source")
    for path, value in sorted(leaves(session.metadata)):
        if path.endswith("_metadata_key"):
            continue
        source = session.sources.get(path, ASSUMED)
        metadata.add_row(
            escape(path), escape(_short(value)), escape(source), style="yellow" if source == ASSUMED else None
        )
    console.print(metadata)
    for remark in session.remarks:
        console.print(f"[yellow]warning:[/] {escape(remark)}", soft_wrap=True)
    if session.unknown_files:
        console.print(f"[dim]belong to no recording: {escape(_listed(session.unknown_files))}[/]", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _facts(part: SessionMovie | SessionSegmentation) -> str:
    """Return a line such as ``"channel Green, 100 x (512, 512), 30 Hz"``."""
    facts = [f"channel {part.channel}"] if part.channel else []
    facts += [] if part.plane is None else [f"plane {part.plane}"]
    if isinstance(part, SessionSegmentation):
        facts += [] if part.num_rois is None else [f"{part.num_rois} ROIs"]
        return ", ".join([*facts, f"in {part.imaging_plane}"])
    if part.num_samples is not None and part.sample_shape is not None:
        facts.append(f"{part.num_samples} x {' x '.join(map(str, part.sample_shape))}")
    facts += [] if part.rate is None else [f"{part.rate:g} Hz"]
    return ", ".join(facts)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _listed(files: Sequence[str]) -> str:
    more = len(files) - MOST_FILES
    return ", ".join(files[:MOST_FILES]) + (f" and {more} more" if more > 0 else "")
