"""Every fault is marked at its time on movies of several makers, and nothing on sound ones of twenty."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from simulated_movies import MAKERS, NUM_SAMPLES, RATE, looked_at

from airflow_provider_ophys.report.marks import CHECKS

TIME = np.arange(NUM_SAMPLES)
STILL = np.zeros((NUM_SAMPLES, 2), dtype=int)


def marks_of(movie):
    found, _ = looked_at(movie)
    return {mark.kind: (round(mark.start * RATE), round(mark.stop * RATE), mark.count) for mark in found.marks}


ALWAYS = (0, NUM_SAMPLES - 1, 1)


@pytest.mark.parametrize("name", MAKERS)
def test_a_sound_movie_has_no_marks_and_says_what_was_checked(name):
    maker = MAKERS[name]
    found, _ = looked_at(maker.record(maker.photons()))
    assert [(mark.kind, mark.detail) for mark in found.marks] == []
    kinds = {kind for kind, _ in CHECKS}
    assert set(found.checked) | set(found.not_checked) == kinds
    assert "no timestamps" in found.not_checked["dropped"]
    assert set(found.checked) >= {"dark detector", "light leak", "saturated", "bleaching", "duplicated"}


@pytest.fixture(params=["ScanImage", "sCMOS"])
def maker(request):
    return MAKERS[request.param]


@pytest.fixture
def photons(maker):
    return _still(maker).copy()


@functools.cache
def _still(maker):
    """The light on a movie that does not move; what it takes to make it is what many tests would take."""
    return maker.photons()


def test_a_dark_detector_is_marked_and_its_recovery_is_no_light_leak(maker, photons):
    photons[100:160] = 0
    assert marks_of(maker.record(photons)) == {"dark detector": (100, 159, 1)}


@pytest.mark.parametrize("value", [0, 7])
def test_a_movie_without_any_light_is_dark_all_along(value):
    assert marks_of(np.full((NUM_SAMPLES, 60, 60), value, "uint16")) == {"dark detector": ALWAYS}


def test_light_that_leaks_in_twice_is_one_mark(maker, photons):
    photons[120:126] += maker.light
    photons[200:203] += maker.light
    assert marks_of(maker.record(photons)) == {"light leak": (120, 202, 2)}


@pytest.mark.parametrize(("first", "stop"), [(0, 10), (2, 8), (290, 300)])
def test_faults_of_the_first_and_last_frames_are_marked_and_nothing_else_for_them(maker, photons, first, stop):
    leaking = photons.copy()
    leaking[first:stop] += maker.light
    assert marks_of(maker.record(leaking)) == {"light leak": (first, stop - 1, 1)}
    movie = maker.record(photons)
    movie[first:stop, : maker.side // 3] = 0
    assert marks_of(movie) == {"partly zero": (first, stop - 1, 1)}


def test_tissue_that_is_active_together_is_no_light_from_outside(maker, photons):
    photons[100:110] *= 1.05
    assert marks_of(maker.record(photons)) == {}


@pytest.mark.parametrize("name", ["ScanImage", "Thor", "Femtonics"])
def test_a_large_cell_that_fires_is_no_jump(name):
    maker = MAKERS[name]
    photons = maker.photons(seed=4)
    photons[60:64, 40:52, 50:62] *= 6
    assert "jump" not in marks_of(maker.record(photons))


def test_dropped_and_duplicated_frames_are_marked(maker, photons):
    movie = maker.record(photons)
    movie[60:63] = 0
    movie[200], movie[210] = movie[199], movie[209]
    assert marks_of(movie) == {"dropped": (60, 62, 1), "duplicated": (200, 210, 2)}


@pytest.mark.parametrize("time", [4, 150, 295])
def test_a_jump_is_marked_at_its_frame(maker, time):
    where = STILL.copy()
    where[time:] = -8, 9
    assert marks_of(maker.record(maker.photons(where=where))) == {"jump": (time, time, 1)}


def test_a_single_moved_frame_is_marked(maker):
    where = STILL.copy()
    where[150] = -8, 9
    assert marks_of(maker.record(maker.photons(where=where))) == {"jump": (150, 151, 2)}


def test_jitter_is_marked(maker):
    where = np.random.default_rng(3).integers(-6, 7, STILL.shape)
    assert marks_of(maker.record(maker.photons(where=where))) == {"jitter": ALWAYS}


def test_a_slow_drift_is_marked(maker):
    where = STILL.copy()
    where[:, 0] = np.linspace(0, 10, NUM_SAMPLES)
    assert marks_of(maker.record(maker.photons(where=where))) == {"drift": ALWAYS}


def test_a_drift_out_of_the_plane_is_marked(maker):
    assert marks_of(maker.record(maker.photons(mix=np.linspace(0, 1, NUM_SAMPLES)))) == {"z-drift": ALWAYS}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_planes_that_are_written_in_turn_are_marked(maker, count):
    movie = maker.record(maker.photons(planes=[50 * (time % count) for time in TIME]))
    found, _ = looked_at(movie)
    (mark,) = found.marks
    assert (mark.kind, mark.detail.split(":")[0]) == (
        "interleaved",
        f"every {count} frames the same picture comes again",
    )


def test_channels_that_are_written_in_turn_are_one_mark_and_no_light_leaks(maker, photons):
    photons[1::2] *= 0.4
    assert marks_of(maker.record(photons)) == {"interleaved": ALWAYS}


@pytest.mark.parametrize("noise", [0, 1])
def test_values_that_pile_up_within_a_few_counts_are_saturated(maker, photons, noise):
    movie = maker.record(photons)
    level = int(np.percentile(movie, 99.95))
    movie = np.minimum(movie, level) + np.random.default_rng(1).integers(-noise, noise + 1, movie.shape)
    found, saturation = looked_at(movie.astype(maker.dtype))
    assert [mark.kind for mark in found.marks] == ["saturated"]
    assert saturation.level == pytest.approx(level, rel=0.01)
    assert saturation.share == pytest.approx(5e-4, rel=0.3)


def test_a_few_hundred_pixels_at_one_value_are_saturated():
    movie = np.random.default_rng(0).exponential(500, (NUM_SAMPLES, 60, 60)).clip(0, 4090).astype("uint16")
    movie[movie >= 4090] = 3000
    movie.reshape(-1)[np.random.default_rng(1).choice(movie.size, 441, replace=False)] = 4094
    found, saturation = looked_at(movie)
    assert (saturation.level, [mark.kind for mark in found.marks]) == (4094.0, ["saturated"])


def test_a_bump_below_the_largest_values_is_saturated():
    """An offset of each pixel was subtracted from a converter's end: values pile up over a stretch."""
    rng = np.random.default_rng(0)
    movie = rng.exponential(12_000, (NUM_SAMPLES, 80, 80))
    movie[movie > 62_000] = 3000
    piled = rng.random(movie.shape) < 1.5e-3
    movie[piled] = 56_000 + rng.exponential(400, np.count_nonzero(piled))
    _, saturation = looked_at(movie.astype("uint16"))
    assert saturation.level == pytest.approx(56_000, rel=0.02)
    assert 1.5e-3 < saturation.share < 0.02


def test_bleaching_is_marked(maker, photons):
    photons *= np.exp(-TIME / 600)[:, None, None]
    assert marks_of(maker.record(photons)) == {"bleaching": ALWAYS}


def test_frames_that_are_partly_zero_are_marked(maker, photons):
    movie = maker.record(photons)
    movie[[40, 90, 91], :30] = 0
    assert marks_of(movie) == {"partly zero": (40, 91, 2)}


def test_light_that_flickers_is_line_noise(maker, photons):
    photons *= 1 + 0.1 * np.sin(2 * np.pi * TIME * 0.217)[:, None, None]
    assert marks_of(maker.record(photons)) == {"line noise": ALWAYS}


def test_bands_that_run_over_the_frames_are_line_noise(maker, photons):
    rows, phases = np.arange(maker.shape[0]), np.random.default_rng(1).random(NUM_SAMPLES)
    photons *= 1 + 0.2 * np.sin(2 * np.pi * (rows / 17 + phases[:, None]))[:, :, None]
    assert marks_of(maker.record(photons)) == {"line noise": ALWAYS}


def test_a_real_movie_whose_brightest_values_pile_up_is_told(shared_data):
    import tifffile

    movie = tifffile.imread(shared_data / "two_photon_tiff" / "mouse2p.tiff").astype("uint16")
    found, saturation = looked_at(movie)
    assert saturation.level == pytest.approx(54_000, rel=0.01)
    assert 0.0005 < saturation.share < 0.003
    assert "saturated" in [mark.kind for mark in found.marks]
