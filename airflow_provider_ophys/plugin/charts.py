"""Charts as SVG, drawn here: bars by day, in the colours of the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 160, 56, 24, 10
# Half of what a day takes below the axis.
HALF_A_LABEL = 32


@dataclass(frozen=True)
class Bar:
    """A bar, with its place in the picture, and what is said of it."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Chart:
    """
    A chart, ready to be written as SVG.

    :param ticks: Heights at which there is a line, and what stands beside it.
    :param labels: Where on the horizontal axis something stands below it, and what.
    """

    title: str
    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    labels: Sequence[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = HEIGHT - BOTTOM


def bar_chart(title: str, unit: str, names: Sequence[str], values: Sequence[float]) -> Chart:
    """
    Lay out a chart with one bar for each name.

    :param unit: Of the values, for what is said of each.
    """
    top = _round_up(max(values, default=0))
    room, floor = (WIDTH - LEFT) / max(len(names), 1), HEIGHT - BOTTOM
    scale = (floor - TOP) / top
    bars = [
        Bar(
            x=round(LEFT + number * room + room * 0.1, 2),
            y=round(floor - value * scale, 2),
            width=round(room * 0.8, 2),
            height=round(value * scale, 2),
            text=f"{name}: {_digits(value)} {unit}",
        )
        for number, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    every = max(1, -(-len(names) // 6))
    return Chart(
        title=title,
        bars=bars,
        ticks=[(round(floor - part * top * scale, 2), _digits(part * top)) for part in (0, 0.5, 1)],
        labels=[
            (round(min(LEFT + (number + 0.5) * room, WIDTH - HALF_A_LABEL), 2), name)
            for number, name in enumerate(names)
            if number % every == 0
        ],
    )


def _round_up(value: float) -> float:
    """Find the next number that reads well on an axis."""
    if value <= 0:
        return 1
    power = 10 ** (len(str(int(value))) - 1) if value >= 1 else 0.1
    while power > value:
        power /= 10
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"  # noqa: PLR2004 -- three digits
