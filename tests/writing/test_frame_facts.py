"""Whether a frame has moved, or only shows something else than the one before."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_ophys.writing.frame_facts import STAYS_AT, likeness_gained, look_at_block, shifts_between


def moved_and_gained(frames):
    facts = look_at_block(np.ascontiguousarray(frames, dtype=np.float32))
    later, earlier, shape = facts.spectra[1:], facts.spectra[:-1], facts.pattern_shape
    moved = shifts_between(later, earlier, shape, stays_at=STAYS_AT)
    return moved[0], likeness_gained(later, earlier, shape, moved)[0]


@pytest.fixture
def scene():
    """Blobs of a few pixels, larger than the field by a margin of 12."""
    rng = np.random.default_rng(2)
    y, x = np.indices((88, 88))
    places = rng.uniform(0, 88, (60, 2))
    return 20 + sum(30 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 18) for row, column in places)


def seen(scene, down=0, right=0):
    return scene[12 - down : 76 - down, 12 - right : 76 - right]


def test_what_has_moved_is_as_it_was_once_that_is_undone(scene):
    moved, gained = moved_and_gained([seen(scene), seen(scene, 8, -6)])
    # The patterns have two by two of these pixels in each of theirs.
    assert moved == pytest.approx([4, -3], abs=0.2)
    assert gained > 0.5


def test_what_has_not_moved_gains_nothing(scene):
    rng = np.random.default_rng(1)
    _, gained = moved_and_gained([rng.poisson(seen(scene)), rng.poisson(seen(scene))])
    assert gained == pytest.approx(0, abs=0.02)


def test_a_cell_that_fires_has_not_moved_the_picture(scene):
    fired = seen(scene).copy()
    fired[30:38, 30:38] += 60
    assert moved_and_gained([seen(scene), fired])[1] < 0.05
