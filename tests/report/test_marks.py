"""What a report marks, when, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from nwb_files import RATE, noisy_movie, write_movie

from airflow_provider_ophys.nwb.contents import open_contents
from airflow_provider_ophys.report.survey import look_at
from airflow_provider_ophys.writing.sharing import Resources

RESOURCES = Resources(budget_bytes=64 * 2**20, threads=1)


def seen_in(path, **options):
    with open_contents(path) as contents:
        (movie,) = look_at(contents, RESOURCES, **options).movies
        return movie


def marks_of(path, **options):
    return {
        (mark.kind, round(mark.start * RATE), round(mark.stop * RATE))
        for mark in seen_in(path, **options).found.marks
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_quiet_recording_has_no_marks(tmp_path, seed):
    assert marks_of(write_movie(tmp_path / "a.nwb", noisy_movie(seed=seed))) == set()


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_every_fault_is_marked_at_its_time_and_nothing_else(tmp_path, backend):
    movie = noisy_movie(300)
    movie[30:34] += 40  # somebody opens the door
    movie[80:82, :, :20] = 4095  # a 12-bit converter at its end
    movie[120:123] = 0  # frames that never arrived
    movie[200] = movie[199]  # a frame that was written twice
    path = write_movie(tmp_path / "a.nwb", movie, backend=backend)
    assert marks_of(path) == {
        ("light leak", 30, 33),
        ("saturated", 80, 81),
        ("dropped", 120, 122),
        ("duplicated", 200, 200),
    }
    found = seen_in(path).saturation
    assert found.level == 4095
    assert found.share == pytest.approx(2 * 20 * 24 / movie.size)


def test_marks_are_on_the_clock_of_the_recording(tmp_path):
    movie = noisy_movie(100)
    movie[40] = 0
    stamps = 7.5 + np.arange(100) / RATE
    stamps[60:] += 0.5  # ten frames are missing
    (mark,) = seen_in(write_movie(tmp_path / "a.nwb", movie, timestamps=stamps)).found.marks
    assert (mark.kind, mark.count, mark.samples) == ("dropped", 2, 11)
    assert (mark.start, mark.stop) == (pytest.approx(9.5), pytest.approx(stamps[60]))
    assert mark.spans[1] == (pytest.approx(stamps[59]), pytest.approx(stamps[60]))
    assert "10 missing" in mark.detail


def test_a_cell_that_fires_hard_is_no_light_leak(tmp_path):
    movie = noisy_movie(200)
    movie[90:95, 4:14, 4:20] += 900
    assert marks_of(write_movie(tmp_path / "a.nwb", movie)) == set()


def test_bleaching_is_told_and_not_taken_for_light(tmp_path):
    rng = np.random.default_rng(1)
    light = 100 * np.exp(-np.arange(400) / 300)
    movie = rng.poisson(np.broadcast_to(light[:, None, None], (400, 24, 40))).astype("uint16")
    (mark,) = seen_in(write_movie(tmp_path / "a.nwb", movie)).found.marks
    assert mark.kind == "bleaching"
    assert (mark.start, mark.stop) == (0.0, pytest.approx(399 / RATE))


def test_values_that_pile_up_at_any_level_are_saturated(tmp_path):
    movie = np.minimum(noisy_movie(100), 150)  # clipped by an offset that was subtracted from a full scale
    found = seen_in(write_movie(tmp_path / "a.nwb", movie)).saturation
    assert found.level == 150
    assert found.share == pytest.approx(np.mean(movie == 150))


def test_a_dim_movie_of_few_photons_is_not_saturated(tmp_path):
    movie = np.random.default_rng(0).poisson(0.3, (200, 24, 40)).astype("uint8")
    assert seen_in(write_movie(tmp_path / "a.nwb", movie)).saturation.level is None


def test_a_sampled_read_finds_what_lies_in_it_and_says_what_it_saw(tmp_path):
    movie = noisy_movie(640)
    movie[:3] += 40
    path = write_movie(
        tmp_path / "a.nwb",
        movie,
        backend_configuration={"acquisition/TwoPhotonSeries/data": {"chunk_shape": [16, 40, 24]}},
    )
    seen = seen_in(path, sample_limit=10 * 16 * movie[0].nbytes)
    assert seen.summary()["samples_looked_at"] == 160
    runs = np.split(seen.survey.indices, np.flatnonzero(np.diff(seen.survey.indices) > 1) + 1)
    assert all(run[0] % 16 == 0 for run in runs)
    assert (runs[0][0], runs[-1][-1]) == (0, 639)
    assert {(mark.kind, mark.start) for mark in seen.found.marks} == {("light leak", 0.0)}
    assert "only samples" in seen.found.not_checked["drift"]
