"""A session as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from airflow_provider_ophys.models.metadata_sections import Metadata
from airflow_provider_ophys.models.session import Session, SessionMovie, SessionSegmentation
from airflow_provider_ophys.sessions.layers import ASSUMED, leaves

LONGEST_VALUE = 200
MOST_FILES = 10


def print_session(console: Console, session: Session, *, metadata: bool = True) -> None:
    """
    Print what would be converted, each fact of the metadata with its source, and the remarks as warnings.

    :param console: Its width is that of the tables.
    :param metadata: Whether to print the facts of the metadata.
    """
    console.print(_recordings(session))
    if metadata:
        console.print(_facts_of_metadata(session))
    for remark in session.remarks:
        console.print(f"[yellow]warning:[/] {escape(remark)}", soft_wrap=True)
    if session.unknown_files:
        console.print(f"[dim]belong to no recording: {escape(_listed(session.unknown_files))}[/]", soft_wrap=True)


def _recordings(session: Session) -> Table:
    table = _table(f"{session.name}: what is converted", "name", "recording", "extractor", "what it is")
    parts: list[SessionMovie | SessionSegmentation] = [*session.imaging, *session.segmentation]
    for part in parts:
        cells = (part.name, part.recording, part.extractor.removesuffix("Extractor"), _what_it_is(part))
        table.add_row(*map(escape, cells))
    return table


def _facts_of_metadata(session: Session) -> Table:
    """List the facts by section; what several channels or planes have in common stands there once."""
    sections: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    keys: dict[str, dict[str, None]] = {}
    for path, value in leaves(session.metadata):
        if path.endswith("_metadata_key"):
            continue
        section, key, field = _divided(path)
        said = (field, _short(value), _by_file(session.sources.get(path, ASSUMED)))
        sections.setdefault(section, {}).setdefault(said, []).append(key)
        keys.setdefault(section, {})[key] = None
    table = _table("Metadata", "field", "value", "source")
    # As Metadata has them; what is passed over, of another modality, comes last.
    order = dict.fromkeys([*Metadata.model_fields, *(section.partition(".")[0] for section in sections)])
    for section, facts in sorted(sections.items(), key=lambda entry: [*order].index(entry[0].partition(".")[0])):
        table.add_section()
        table.add_row(f"[bold]{escape(section)}[/]")
        for (field, value, source), having in sorted(facts.items(), key=lambda fact: (fact[0][0], fact[1])):
            of = "" if len(having) == len(keys[section]) else f" ({', '.join(having)})"
            style = "yellow" if source == ASSUMED else None
            table.add_row(*map(escape, (f"  {field}{of}", value, source)), style=style)
    return table


def _divided(path: str) -> tuple[str, str, str]:
    """Divide the path of a field into the section, the key in it (none for those of the file), and the rest."""
    match path.split("."):
        case ["Ophys", section, key, field, *rest]:
            return f"Ophys.{section}", key, ".".join([field, *rest])
        case ["Devices" | "DeviceModels" as section, key, field, *rest]:
            return section, key, ".".join([field, *rest])
        case [section, *rest]:
            return section, "", ".".join(rest)
    raise AssertionError(path)


def _by_file(source: str) -> str:
    """Name each file once: ``"a.tif: X; a.tif: Y"`` becomes ``"a.tif: X, Y"``."""
    files: dict[str, list[str]] = {}
    for place in source.split("; "):
        file, _, where = place.partition(": ")
        files.setdefault(file, []).extend([where] if where else [])
    return "; ".join(f"{file}: {', '.join(places)}" if places else file for file, places in files.items())


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _what_it_is(part: SessionMovie | SessionSegmentation) -> str:
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
    text = _spelled(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _spelled(value: object) -> str:
    """Spell a value for reading: floats to six digits, lists and their entries without quotes."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_spelled, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_spelled(entry)}" for key, entry in value.items())
    return str(value)


def _listed(files: Sequence[str]) -> str:
    more = len(files) - MOST_FILES
    return ", ".join(files[:MOST_FILES]) + (f" and {more} more" if more > 0 else "")
