"""Each fault on movies of each maker, and what only looks like one; ``make thorough`` takes the whole table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from simulated_movies import MAKERS, NUM_SAMPLES, looked_at
from thorough import THOROUGH

TIME = np.arange(NUM_SAMPLES)
MIDDLE = NUM_SAMPLES // 2
# So few photons in a frame, or nothing to see, that nobody could tell how the picture moves.
FAINT = {"few photons", "no cells"}
MOVED = {"jump", "jitter", "drift", "z-drift"}


def still():
    return np.zeros((NUM_SAMPLES, 2), dtype=int)


def darkened(maker):
    photons = maker.photons()
    photons[100:130] = 0
    return maker.record(photons)


def leaking(maker):
    photons = maker.photons()
    photons[MIDDLE : MIDDLE + 8] += photons.mean()
    return maker.record(photons)


def leaking_from_a_side(maker):
    photons = maker.photons()
    photons[60:64] += photons.mean() * np.linspace(0.3, 0.9, photons.shape[2])
    return maker.record(photons)


def repeated(maker):
    movie = maker.record(maker.photons())
    movie[MIDDLE] = movie[MIDDLE - 1]
    return movie


def blanked(maker):
    movie = maker.record(maker.photons())
    movie[MIDDLE] = 0
    return movie


def partly_lost(maker):
    movie = maker.record(maker.photons())
    movie[MIDDLE, maker.shape[0] // 3 :] = 0
    return movie


def jumped(maker, step=(-8, 9)):
    where = still()
    where[MIDDLE:] = step
    return maker.record(maker.photons(where=where))


def jumped_a_little(maker):
    return jumped(maker, (-4, 4))


def away_for_a_moment(maker):
    where = still()
    where[MIDDLE : MIDDLE + 6] = 0, 8
    return maker.record(maker.photons(where=where))


def shaking(maker):
    return maker.record(maker.photons(where=np.random.default_rng(3).integers(-5, 6, still().shape)))


def drifting(maker):
    where = still()
    where[:, 1] = np.linspace(0, 12, NUM_SAMPLES)
    return maker.record(maker.photons(where=where))


def sinking(maker):
    return maker.record(maker.photons(mix=np.linspace(0, 1, NUM_SAMPLES)))


def of_three_planes(maker):
    return maker.record(maker.photons(planes=[50 * (time % 3) for time in TIME]))


def of_two_channels(maker):
    photons = maker.photons()
    photons[1::2] = 0.35 * photons[1::2].mean(axis=0)
    return maker.record(photons)


def clipped(maker):
    movie = maker.record(maker.photons())
    return np.minimum(movie, np.round(np.percentile(movie, 99.8)).astype(movie.dtype))


def fading(maker):
    return maker.record(maker.photons() * np.exp(-TIME / 350)[:, None, None])


def flickering(maker):
    return maker.record(maker.photons() * (1 + 0.1 * np.sin(2 * np.pi * TIME * 0.217))[:, None, None])


FAULTS: dict[str, tuple[str, Callable]] = {
    made.__name__: (kind, made)
    for kind, made in [
        ("dark detector", darkened),
        ("light leak", leaking),
        ("light leak", leaking_from_a_side),
        ("duplicated", repeated),
        ("dropped", blanked),
        ("partly zero", partly_lost),
        ("jump", jumped),
        ("jump", jumped_a_little),
        ("jump", away_for_a_moment),
        ("jitter", shaking),
        ("drift", drifting),
        ("z-drift", sinking),
        ("interleaved", of_three_planes),
        ("interleaved", of_two_channels),
        ("saturated", clipped),
        ("bleaching", fading),
        ("line noise", flickering),
    ]
}


def active_together(maker):
    """All of the tissue brightens and darkens within seconds, as it does while an animal runs."""
    rng = np.random.default_rng(7)
    change = np.convolve(rng.normal(size=NUM_SAMPLES + 40), np.hanning(14), "same")[20:-20]
    return maker.record(maker.photons() * (1 + 0.03 * change / change.std())[:, None, None])


def firing_strongly(maker):
    """A large cell fires, five times as bright as others are."""
    photons = maker.photons()
    height = photons.shape[1] // 9
    photons[MIDDLE : MIDDLE + 4, 20 : 20 + height, 20 : 20 + height] += 5 * maker.cells
    return maker.record(photons)


LIVES = {made.__name__: (None, made) for made in (active_together, firing_strongly)}


# In a field of 40 pixels a cell that fires looks like a move, and a jump by a fifth of it like another place; and
# planes without cells look the same.
UNSEEN = {("small field", "firing_strongly"), ("small field", "jumped"), ("no cells", "of_three_planes")}


def is_seen(maker, name, kind):
    return not (kind in MOVED and maker in FAINT) and (maker, name) not in UNSEEN


def table(columns):
    """Every maker with every column; of these, where it is not thorough, each column with a few makers in turn."""
    pairs = [
        (maker, name) for name, (kind, _) in columns.items() for maker in MAKERS if is_seen(maker, name, kind)
    ]
    return pairs if THOROUGH else pairs[::29]


def marks_of(movie):
    found, _ = looked_at(movie)
    return {mark.kind for mark in found.marks}


@pytest.mark.parametrize(("maker", "fault"), table(FAULTS))
def test_a_fault_is_marked_and_nothing_else_for_it(maker, fault):
    kind, make = FAULTS[fault]
    assert marks_of(make(MAKERS[maker])) == {kind}


@pytest.mark.parametrize(("maker", "life"), table(LIVES))
def test_tissue_that_is_alive_has_no_marks(maker, life):
    # That may be more than a converter holds.
    assert marks_of(LIVES[life][1](MAKERS[maker])) <= ({"saturated"} if life == "firing_strongly" else set())
