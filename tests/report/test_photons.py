"""What the report says of photons and lengths is what the simulated microscope was given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from airflow_provider_ophys.report.movie import MovieSurvey
from airflow_provider_ophys.report.panels import Montage, draw_image
from airflow_provider_ophys.report.photons import photon_gain, signal_to_noise
from airflow_provider_ophys.writing.frame_statistics import FrameStatistics

NUM_SAMPLES, ROWS, COLUMNS = 300, 64, 80
# Photons of each pixel, from dark to bright across the image.
PHOTONS = np.broadcast_to(np.linspace(5, 80, COLUMNS), (ROWS, COLUMNS))


def surveyed(movie):
    statistics = FrameStatistics((len(movie), *movie.shape[:0:-1]), movie.dtype)
    statistics.add(movie.swapaxes(1, 2), 0)
    return MovieSurvey(statistics, len(movie))


def recorded(gain):
    rng = np.random.default_rng(0)
    return (rng.poisson(PHOTONS, (NUM_SAMPLES, ROWS, COLUMNS)) * gain).astype(np.uint16)


@pytest.mark.parametrize("gain", [1, 7, 40])
def test_the_gain_is_the_counts_that_a_photon_makes(gain):
    assert photon_gain(surveyed(recorded(gain))) == pytest.approx(gain, rel=0.1)


def test_a_movie_whose_noise_is_not_of_photons_has_no_gain():
    noise = np.random.default_rng(0).normal(0, 10, (NUM_SAMPLES, ROWS, COLUMNS))
    assert photon_gain(surveyed((PHOTONS * 20 + noise).astype(np.uint16))) is None


def test_too_short_a_movie_has_no_gain():
    assert photon_gain(surveyed(recorded(7)[:20])) is None


@pytest.mark.parametrize("gain", [1, 40])
def test_the_signal_is_above_its_noise_as_far_as_photons_say(gain):
    # Of Poisson noise the mean over the standard deviation is the root of the photons.
    assert signal_to_noise(surveyed(recorded(gain))) == pytest.approx(np.median(np.sqrt(PHOTONS)), rel=0.15)


def drawn(shape, micrometres):
    axes = Figure().subplots()
    draw_image(
        axes, np.ones(shape), Montage.of(shape), step=1, title="mean", unit="counts", micrometres=micrometres
    )
    bars = [np.ptp(line.get_xdata()) for line in axes.lines if np.ptp(line.get_ydata()) == 0]
    return bars, [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(("micrometres", "told"), [(0.5, 50), (1.3, 100), (0.11, 10)])
@pytest.mark.parametrize("shape", [(512, 400), (512, 400, 3)])
def test_the_scale_bar_is_as_long_as_it_says(shape, micrometres, told):
    bars, texts = drawn(shape, micrometres)
    assert f"{told} µm" in texts
    assert bars == pytest.approx([told / micrometres] * len(bars))
    assert bars


def test_without_a_pixel_size_there_is_no_scale_bar():
    bars, texts = drawn((512, 400), None)
    assert bars == []
    assert not any("µm" in text for text in texts)
