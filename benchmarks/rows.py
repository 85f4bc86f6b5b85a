"""What a benchmark found: rows of figures, as a Markdown table, as JSON and as a picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """
    One figure, measured some times.

    :param section: What was done, such as ``"HDF5, 1.07 GB"``; rows of one section are one table.
    :param name: The figure and its unit, such as ``"wall, s"``.
    :param ours: What this package took, once per round.
    :param theirs: What the reference took; empty if it cannot do this, or the figure is not about it.
    :param target: Least ratio theirs / ours that is wanted.
    :param reference: Who they are.
    """

    section: str
    name: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    target: float | None = None
    reference: str = "neuroconv 0.10.2"

    @property
    def ratio(self) -> float | None:
        """Theirs / ours, of the medians: above 1, ours is the smaller."""
        if not self.theirs or not statistics.median(self.ours):
            return None
        return statistics.median(self.theirs) / statistics.median(self.ours)


def rows_of(
    section: str,
    runs: Mapping[str, Sequence[Mapping[str, float]]],
    names: Mapping[str, str],
    targets: Mapping[str, float] | None = None,
    reference: str = Row.reference,
) -> list[Row]:
    """
    Make the rows of one section.

    :param runs: Who (``"ours"``, ``"theirs"``) -> what each of its rounds measured, by key.
    :param names: Key -> name of its row.
    :param targets: Key -> least ratio.
    :param reference: Who they are.
    """
    values = {who: {key: [run[key] for run in runs.get(who, ())] for key in names} for who in ("ours", "theirs")}
    return [
        Row(
            section,
            name,
            values["ours"][key],
            values["theirs"][key],
            (targets or {}).get(key),
            reference,
        )
        for key, name in names.items()
    ]


def table(rows: Iterable[Row]) -> str:
    """Medians with their ranges, ratios and targets, as one Markdown table per section."""
    tables = []
    for section, of_section in groupby(rows, key=lambda row: row.section):
        found = list(of_section)
        if any(row.theirs for row in found):
            lines = [f"| {section} | ours | {found[0].reference} | ratio | target |", "|---|---|---|---|---|"]
            lines += [
                f"| {row.name} | {_cell(row.ours)} | {_cell(row.theirs)} | {_number(row.ratio)} "
                f"| {_number(row.target)} |"
                for row in found
            ]
        else:
            lines = [f"| {section} | median (range) |", "|---|---|"]
            lines += [f"| {row.name} | {_cell(row.ours)} |" for row in found]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    median = _figure(statistics.median(values))
    return median if min(values) == max(values) else f"{median} ({_figure(min(values))}-{_figure(max(values))})"


def _figure(value: float) -> str:
    """Write three digits, or all of those before the point, and never an exponent for a large number."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"  # noqa: PLR2004


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def save(rows: Sequence[Row], folder: Path) -> None:
    """Write ``results.json``, ``results.md`` and, where two are compared, ``results.png``."""
    folder.mkdir(exist_ok=True)
    listed = [asdict(row) | {"ratio": row.ratio} for row in rows]
    (folder / "results.json").write_text(json.dumps(listed, indent=2))
    (folder / "results.md").write_text(table(rows) + "\n")
    compared = [row for row in rows if row.ratio is not None]
    if compared:
        _plot(compared, folder / "results.png")


def _plot(rows: Sequence[Row], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.28 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows), 0, -1)
    axes.barh(places, [row.ratio or 0 for row in rows], color="#4477aa", label="reference / ours")
    wanted = [(place, row.target) for place, row in zip(places, rows, strict=True) if row.target]
    axes.scatter(
        [target for _, target in wanted], [place for place, _ in wanted], marker="|", s=120, color="black",
        zorder=3, label="target",
    )  # fmt: skip
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("reference / ours: right of 1, ours takes less")
    axes.set_yticks(places, [f"{row.section}: {row.name} ({row.reference})" for row in rows], fontsize=8)
    for place, row in zip(places, rows, strict=True):
        axes.annotate(f" {row.ratio:.2f}", (row.ratio or 1, place), va="center", fontsize=8)
    axes.margins(x=0.15, y=0.01)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(file, dpi=130)
