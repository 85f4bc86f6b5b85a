"""What is wrong with where the tissue is: it jumps, shakes or drifts, within its plane or out of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.report.curves import Curve, spread
from airflow_provider_ophys.report.evidence import Evidence, NotChecked, Sighting
from airflow_provider_ophys.report.light_marks import row_bands
from airflow_provider_ophys.writing.frame_facts import normalized, shifts_between
from airflow_provider_ophys.writing.frame_scan import bin_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Frames that are less like their neighbours, or stretches of time that are, show too little to follow it.
LEAST_LIKENESS = 0.3
FEWEST_PIXELS = 1600

# One move: the frame is less like the one before than others are, and has moved farther than they seem to.
MOVE_PIXELS, MOVE_SIGMAS = 1.5, 6.0
MOVE_LIKENESS, LIKENESS_SIGMAS = 0.05, 8.0
# So many moves are no jumps any more.
MOST_JUMPS_SHARE = 0.05
# Who is back within so many frames has moved, too.
SOON_FRAMES = 20

# Many: how far frames move as a rule, and how much less alike the ones are that moved farther.
JITTER_PIXELS, JITTER_LIKENESS, JITTER_CORRELATION = 1.0, 0.05, -0.4

DRIFT_PIXELS, DRIFT_SIGMAS = 3.0, 4.0
SMOOTHED_SLICES, REFERENCE_SLICES = 5, 4
# Nine tenths of normally distributed numbers are within so many standard deviations.
NORMAL_90 = 1.645

# Of the recording in eighths: by how much less the last is like the first than neighbours are.
EIGHTHS = 8
Z_LIKENESS = 0.2


def jumps(evidence: Evidence) -> Iterator[Sighting]:
    """Yield where the whole picture has moved from one frame to the next."""
    shift_x, shift_y, _ = _shifts(evidence)
    for place in _jumped(evidence):
        stretch = slice(int(place), int(place) + 1)
        yield evidence.at(
            stretch, f"the picture moves by about ({shift_x[place]:.0f}, {shift_y[place]:.0f}) pixels"
        )


def jitter(evidence: Evidence) -> Iterator[Sighting]:
    """Yield one sighting if the picture moves from frame to frame as a rule."""
    shift_x, shift_y, likeness = _shifts(evidence)
    known = np.isfinite(likeness)
    distance, alike = np.hypot(shift_x, shift_y)[known], likeness[known]
    if row_bands(evidence) is not None:
        raise NotChecked("bands run over the picture")
    low, high = np.percentile(alike, [10, 90])
    usual = float(np.sqrt(np.mean(np.minimum(distance, np.percentile(distance, 95)) ** 2)))
    if usual < JITTER_PIXELS or high - low < JITTER_LIKENESS:
        return
    if np.corrcoef(distance, alike)[0, 1] < JITTER_CORRELATION:
        yield evidence.always(f"the picture moves by {usual:.1f} pixels from frame to frame (root mean square)")


def drift(evidence: Evidence) -> Iterator[Sighting]:
    """Yield one sighting if the picture moves slowly, beside what it jumps."""
    path, noise = _path(evidence)
    if any(z_drift(evidence)):
        raise NotChecked("the picture becomes another one")
    times = _slice_times(evidence)
    shift_x, shift_y, _ = _shifts(evidence)
    for place in _jumped(evidence):
        path[times >= evidence.times[place]] -= (shift_y[place], shift_x[place])
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


def _shifts(evidence: Evidence) -> tuple[Curve, Curve, Curve]:
    """
    Return by how much each frame has moved in x and y, and how like the one before it is; NaN where unknown.

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
    likeness = np.where(known, frames["correlation"].mean(axis=1, dtype=np.float64), np.nan)
    if not np.isfinite(likeness).sum() > EIGHTHS:
        raise NotChecked("too few frames were looked at one after the other")
    if np.nanmedian(likeness) < LEAST_LIKENESS:
        raise NotChecked("the frames show too little structure")
    # All planes of a volume move together.
    shift_x, shift_y = (np.nanmedian(_finite(frames[name]), axis=1) for name in ("shift_x", "shift_y"))
    return np.where(known, shift_x, 0.0), np.where(known, shift_y, 0.0), likeness


def _need_pixels(evidence: Evidence) -> None:
    """
    Make sure that a few cells which fire do not look like a picture that moves.

    :raises NotChecked: If they may.
    """
    if np.prod(evidence.survey.statistics.slices.shape[2:]) < FEWEST_PIXELS:
        raise NotChecked("the frames are too small")


def _finite(values: NDArray[Any]) -> Curve:
    return np.nan_to_num(values.astype(np.float64))


def _moves(evidence: Evidence) -> NDArray[np.bool_]:
    """Tell which frames have moved, of those whose neighbours have not."""
    shift_x, shift_y, likeness = _shifts(evidence)
    usual = np.nanmedian(likeness)
    drop = max(MOVE_LIKENESS, LIKENESS_SIGMAS * spread(likeness[np.isfinite(likeness)]))
    is_other = np.nan_to_num(likeness, nan=usual) < usual - drop
    noise = max(spread(shift_x), spread(shift_y))
    return np.asarray(is_other & (np.hypot(shift_x, shift_y) > max(MOVE_PIXELS, MOVE_SIGMAS * noise)))


def _jumped(evidence: Evidence) -> NDArray[np.int64]:
    """
    Return the frames that have moved, and stay where they are, or move back soon.

    A large cell that fires looks like a move as well, but moves nothing.
    """
    moves = _moves(evidence)
    places = np.flatnonzero(moves)
    if np.mean(moves) > MOST_JUMPS_SHARE:
        return places[:0]
    shift_x, shift_y, _ = _shifts(evidence)
    steps = np.stack([shift_y, shift_x], axis=1)
    try:
        path, _ = _path(evidence)
        times = _slice_times(evidence)
    except NotChecked:
        path, times = np.zeros((0, 2)), np.zeros(0)

    def stays(place: int) -> bool:
        before, after = path[times < evidence.times[place]][-4:-1], path[times > evidence.times[place]][1:4]
        if not len(before) or not len(after):
            # So near to where the recording begins or ends only light from outside speaks against it.
            return len(path) > 0 and not evidence.is_leaking[place - 1 : place + 1].any()
        return _is_same(np.median(after, axis=0) - np.median(before, axis=0), steps[place])

    def returns(place: int) -> bool:
        others = places[(places != place) & (np.abs(places - place) <= SOON_FRAMES)]
        return any(_is_same(-steps[other], steps[place]) for other in others)

    return places[[stays(int(place)) or returns(int(place)) for place in places]]


def _is_same(one: Curve, other: Curve) -> bool:
    """Tell whether two moves differ by less than half of the second."""
    return bool(np.hypot(*(one - other)) < np.hypot(*other) / 2)


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
    # What came in over the border was not seen.
    edge_y, edge_x = (
        min(int(np.ceil(abs(step))), length // 4) for step, length in zip(by, pattern.shape, strict=True)
    )
    moved[:edge_y] = moved[rows - edge_y :] = 0
    moved[:, :edge_x] = moved[:, columns - edge_x :] = 0
    return np.asarray(moved, dtype=np.float32)
