"""What is wrong with where the tissue is: it jumps, shakes or drifts, within its plane or out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.report.curves import Curve, spread
from airflow_provider_ophys.report.evidence import Evidence, NotChecked, Sighting
from airflow_provider_ophys.report.light_marks import row_bands
from airflow_provider_ophys.writing.frame_facts import normalized, shifts_between
from airflow_provider_ophys.writing.frame_scan import bin_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Stretches of time that are less alike show too little to follow it.
LEAST_LIKENESS = 0.3
FEWEST_PIXELS = 1600

# A frame has moved by so much, and its structure is so much more like that of the one before once that is undone.
MOVE_PIXELS, MOVE_SIGMAS = 1.5, 6.0
MOVE_GAINED, GAINED_SIGMAS = 0.3, 8.0
# A frame that has gained less has moved only if it stays there.
LEAST_GAINED = 0.05
# So many moves are no jumps any more, but jitter: by so many pixels as a rule.
MOST_JUMPS_SHARE, JITTER_GAINED, JITTER_PIXELS = 0.05, 0.15, 1.0
# A picture does not move farther than this share of the field.
NEAR_SHARE = 1 / 4
# Frames that are so unlike each other, and gain so little, seem to move by chance.
CHANCE_LIKENESS, CHANCE_GAINED = 0.5, 0.25

DRIFT_PIXELS, DRIFT_SIGMAS = 3.0, 4.0
SMOOTHED_SLICES, REFERENCE_SLICES = 5, 4
# Nine tenths of normally distributed numbers are within so many standard deviations.
NORMAL_90 = 1.645

# Of the recording in eighths: by how much less the last is like the first than neighbours are.
EIGHTHS = 8
Z_LIKENESS = 0.2


def jumps(evidence: Evidence) -> Iterator[Sighting]:
    """Yield where the whole picture has moved from one frame to the next."""
    for move in _jumped(evidence):
        stretch = slice(move.place, move.place + 1)
        yield evidence.at(stretch, f"the picture moves by about ({move.step[1]:.0f}, {move.step[0]:.0f}) pixels")


def jitter(evidence: Evidence) -> Iterator[Sighting]:
    """Yield one sighting if the picture moves from frame to frame as a rule."""
    steps, gained = _steps(evidence)
    known = np.isfinite(gained)
    distance = np.hypot(*steps[known].T)
    if row_bands(evidence) is not None:
        raise NotChecked("bands run over the picture")
    likeness = np.median(evidence.survey.frames["correlation"][known].mean(axis=1))
    is_far = distance > MOVE_PIXELS
    if likeness < CHANCE_LIKENESS and is_far.any() and np.median(gained[known][is_far]) < CHANCE_GAINED:
        raise NotChecked("the frames show too little structure")
    usual = float(np.sqrt(np.mean(np.minimum(distance, np.percentile(distance, 95)) ** 2)))
    if usual > JITTER_PIXELS and np.mean(_far_and_gained(steps, gained)) > MOST_JUMPS_SHARE:
        yield evidence.always(f"the picture moves by {usual:.1f} pixels from frame to frame (root mean square)")


def drift(evidence: Evidence) -> Iterator[Sighting]:
    """Yield one sighting if the picture moves slowly, beside what it jumps."""
    path, noise = _path(evidence)
    if any(z_drift(evidence)):
        raise NotChecked("the picture becomes another one")
    times = _slice_times(evidence)
    for move in _jumped(evidence):
        # What moves back soon is no part of where the picture is over time.
        if move.has_settled:
            path[times >= evidence.times[move.place]] -= move.step
    smooth = _smoothed(path)
    extent = smooth.max(axis=0) - smooth.min(axis=0)
    distance = float(np.hypot(*extent))
    if distance > max(DRIFT_PIXELS, DRIFT_SIGMAS * noise):
        moved = smooth[-1] - smooth[0]
        yield evidence.always(
            f"the picture drifts over {distance:.1f} pixels, to ({moved[1]:.0f}, {moved[0]:.0f}) from where it was"
        )


def z_drift(evidence: Evidence) -> Iterator[Sighting]:
    """Yield one sighting if the picture becomes another one, wherever it has moved to."""
    path, _ = _path(evidence)
    patterns, _ = evidence.slice_patterns
    size = bin_size(evidence.survey.statistics.frame_shape)
    aligned = np.stack([_moved(pattern, -where / size) for pattern, where in zip(patterns, path, strict=True)])
    # What came in over a border was not seen all along.
    edge_y, edge_x = (
        min(int(np.ceil(farthest / size)), length // 4)
        for farthest, length in zip(np.abs(path).max(axis=0), aligned.shape[1:], strict=True)
    )
    aligned = aligned[:, edge_y : aligned.shape[1] - edge_y, edge_x : aligned.shape[2] - edge_x]
    eighths = np.stack([part.mean(axis=0) for part in np.array_split(aligned, EIGHTHS)])
    flat = normalized(eighths.astype(np.float32))
    likeness = flat @ flat.T
    neighbours = float(np.sqrt(max(likeness[0, 1], 0) * max(likeness[-2, -1], 0)))
    if neighbours < LEAST_LIKENESS:
        raise NotChecked("the frames show too little structure")
    early, late = float(likeness[0, 1:3].mean()), float(likeness[0, -3:].mean())
    if neighbours - likeness[0, -1] > Z_LIKENESS and early - late > Z_LIKENESS / 2:
        yield evidence.always(
            "the picture becomes another one: the correlation of the last eighth with the first is "
            f"{likeness[0, -1]:.2f}, that of neighbouring eighths {neighbours:.2f}"
        )


def _steps(evidence: Evidence) -> tuple[Curve, Curve]:
    """
    Return by how much each frame has moved, and how much more it is like the one before once that is undone.

    :returns: (frames, 2), rows first, 0 where unknown; and (frames,), NaN where unknown.
    :raises NotChecked: If the frames do not tell.
    """
    evidence.need()
    if evidence.period > 1:
        raise NotChecked("channels or planes are written in turn")
    _need_pixels(evidence)
    frames = evidence.survey.frames
    usable = evidence.is_usable
    known = np.zeros(len(usable), dtype=bool)
    known[1:] = usable[1:] & usable[:-1]
    # A part of a frame that is lost has no place.
    zeros = frames["zeros"].max(axis=1).astype(np.float64)
    known[1:] &= np.abs(np.diff(zeros)) <= 0.02 * evidence.survey.pixels_per_sample
    gained = np.where(known, frames["gained"].mean(axis=1, dtype=np.float64), np.nan)
    known &= np.isfinite(gained)
    if not known.sum() > EIGHTHS:
        raise NotChecked("too few frames were looked at one after the other")
    # All planes of a volume move together.
    steps = np.stack([np.median(_finite(frames[name]), axis=1) for name in ("shift_y", "shift_x")], axis=1)
    return np.where(known[:, None], steps, 0.0), gained


def _need_pixels(evidence: Evidence) -> None:
    """
    Make sure that a few cells which fire do not look like a picture that moves.

    :raises NotChecked: If they may.
    """
    if np.prod(evidence.survey.statistics.slices.shape[2:]) < FEWEST_PIXELS:
        raise NotChecked("the frames are too small")


def _finite(values: NDArray[Any]) -> Curve:
    return np.nan_to_num(values.astype(np.float64))


def _is_near(evidence: Evidence, steps: Curve) -> NDArray[np.bool_]:
    """Tell which moves are no farther than a picture moves."""
    return np.asarray((np.abs(steps) < NEAR_SHARE * np.array(evidence.survey.statistics.frame_shape)).all(axis=-1))


def _far_and_gained(steps: Curve, gained: Curve) -> NDArray[np.bool_]:
    """Tell which frames have moved, if many have."""
    return np.asarray((np.hypot(*steps.T) > MOVE_PIXELS) & (np.nan_to_num(gained) > JITTER_GAINED))


@dataclass(frozen=True)
class _Move:
    """A frame that has moved, of those that were looked at, and by how many pixels, rows first."""

    place: int
    step: Curve
    has_settled: bool


def _jumped(evidence: Evidence) -> list[_Move]:
    """Return the frames that have moved, of those whose neighbours have not."""
    steps, gained = _steps(evidence)
    if np.mean(_far_and_gained(steps, gained)) > MOST_JUMPS_SHARE:
        return []
    noise = max(spread(steps[:, 0]), spread(steps[:, 1]))
    least = max(LEAST_GAINED, GAINED_SIGMAS * spread(gained[np.isfinite(gained)]))
    gained = np.nan_to_num(gained)
    places = np.flatnonzero((gained > least) & (np.hypot(*steps.T) > max(MOVE_PIXELS, MOVE_SIGMAS * noise)))
    try:
        path, times = _path(evidence)[0], _slice_times(evidence)
    except NotChecked:
        path, times = np.zeros((0, 2)), np.zeros(0)
    found = []
    for place in map(int, places):
        before = path[times < evidence.times[place]][-4:-1]
        after = path[times > evidence.times[place]][1:4]
        is_followed = len(before) > 0 and len(after) > 0
        settled = np.median(after, axis=0) - np.median(before, axis=0) if is_followed else np.zeros(2)
        if is_followed and _is_same(settled, steps[place]):
            found.append(_Move(place, settled, has_settled=True))
        elif gained[place] > MOVE_GAINED and _is_near(evidence, steps[place]):
            found.append(_Move(place, steps[place], has_settled=False))
    return found


def _is_same(one: Curve, other: Curve) -> bool:
    """Tell whether two moves differ by less than half of the larger."""
    return bool(np.hypot(*(one - other)) < max(np.hypot(*one), np.hypot(*other)) / 2)


def _slice_times(evidence: Evidence) -> Curve:
    _, places = evidence.slice_patterns
    statistics = evidence.survey.statistics
    middles = (places + 0.5) * len(statistics.frames) / len(statistics.slices)
    return np.interp(middles, evidence.indices, evidence.times)


def _path(evidence: Evidence) -> tuple[Curve, float]:
    """
    Return where the picture is over time, in pixels from where it is in the middle, rows first, and its noise.

    :raises NotChecked: If the picture cannot be followed.
    """
    evidence.need()
    evidence.need_neighbours()
    if evidence.period > 1:
        raise NotChecked("channels or planes are written in turn")
    _need_pixels(evidence)
    patterns, _ = evidence.slice_patterns
    count, *shape = patterns.shape
    if count < EIGHTHS or min(shape) < EIGHTHS:
        raise NotChecked("there are too few frames or pixels")
    flat = normalized(
        np.concatenate([patterns, patterns[_reference(normalized(patterns))].mean(axis=0, keepdims=True)])
    )
    if np.median(np.einsum("tp,tp->t", flat[1:-1], flat[:-2])) < LEAST_LIKENESS:
        raise NotChecked("the frames show too little structure")
    window_y, window_x = (np.hanning(length + 2)[1:-1] for length in shape)
    window = np.outer(window_y, window_x)
    spectra = np.fft.rfft2(flat.reshape(-1, *shape) * window, axes=(1, 2)).astype(np.complex64)
    moved = shifts_between(spectra[:-1], spectra[-1:], (shape[0], shape[1]))
    path = moved * bin_size(evidence.survey.statistics.frame_shape)
    return path, float(np.hypot(*_usual_steps(path)) / np.sqrt(2))


def _usual_steps(path: Curve) -> Curve:
    """Return the standard deviation of most steps along each axis; a tenth of them may be jumps."""
    return np.asarray(np.percentile(np.abs(np.diff(path, axis=0)), 90, axis=0) / NORMAL_90)


def _reference(flat: NDArray[np.float32]) -> slice:
    """Choose some slices near the middle between which the picture has not moved."""
    count = len(flat)
    starts = [int(count * share) - REFERENCE_SLICES // 2 for share in (0.5, 0.4, 0.6, 0.3, 0.7)]
    ends = [float(flat[start] @ flat[start + REFERENCE_SLICES - 1]) for start in starts]
    # The first that is about as steady as the best.
    best = next(start for start, likeness in zip(starts, ends, strict=True) if likeness > 0.9 * max(ends) - 0.01)
    return slice(best, best + REFERENCE_SLICES)


def _smoothed(path: Curve) -> Curve:
    """Return the running median of a path, so that one stretch of time cannot make a drift."""
    width = min(SMOOTHED_SLICES, len(path))
    windows = np.lib.stride_tricks.sliding_window_view(path, width, axis=0)
    return np.asarray(np.median(windows, axis=-1))


def _moved(pattern: NDArray[np.float32], by: Curve) -> NDArray[np.float32]:
    """Return a pattern, moved by so many of its pixels, rows first."""
    rows, columns = pattern.shape
    phase = by[0] * np.fft.fftfreq(rows)[:, None] + by[1] * np.fft.rfftfreq(columns)[None, :]
    moved = np.fft.irfft2(np.fft.rfft2(pattern) * np.exp(-2j * np.pi * phase), s=pattern.shape)
    return np.asarray(moved, dtype=np.float32)
