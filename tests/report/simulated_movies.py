"""
Movies of different makers' kinds, sound ones, and the faults that are to be found in them.

All are (time, rows, columns); a fault is a function that spoils a movie and tells when.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_provider_ophys.nwb.contents import Timing
from airflow_provider_ophys.report.marks import find_marks
from airflow_provider_ophys.report.movie import MovieSurvey
from airflow_provider_ophys.report.saturation import find_saturation
from airflow_provider_ophys.writing.frame_statistics import FrameStatistics

RATE = 20.0
NUM_SAMPLES = 300


@dataclass(frozen=True)
class Maker:
    """
    How a microscope's movies look.

    :param side: Rows; there are a fifth more columns.
    :param light: Mean photons of a pixel of the background.
    :param cells: Photons that a cell adds at its middle.
    :param size: Radius of a cell, in pixels.
    :param gain: Counts per photon.
    :param offset: Counts without light.
    :param read_noise: Standard deviation, in counts.
    :param vignette: How much darker the corners are than the middle.
    :param active: How much brighter a cell is while it fires.
    """

    dtype: str
    side: int = 96
    light: float = 20.0
    cells: float = 60.0
    size: float = 4.0
    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = 0.0
    vignette: float = 0.0
    active: float = 1.0

    @property
    def shape(self):
        return self.side, self.side * 6 // 5

    def scene(self, seed=0, margin=24):
        """Return photons of each pixel at rest, with a margin, and each cell's own."""
        rng = np.random.default_rng(seed)
        rows, columns = (length + 2 * margin for length in self.shape)
        y, x = np.indices((rows, columns))
        light = self.light * (1 - self.vignette * (np.hypot(y / rows - 0.5, x / columns - 0.5) * 1.4) ** 2)
        cells = []
        for _ in range(rows * columns // 250):
            row, column, strength = rng.uniform(0, rows), rng.uniform(0, columns), rng.uniform(0.3, 1)
            cells.append(
                self.cells * strength * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * self.size**2))
            )
        return light, np.array(cells)

    def photons(self, num_samples=NUM_SAMPLES, *, seed=0, where=None, planes=None, mix=None):
        """
        Return the light that falls on each pixel.

        :param where: (time, 2): by how many (rows, columns) the tissue has moved.
        :param planes: Seed of the scene at each time; default: always the same.
        :param mix: (time,) How much of another plane's scene is seen, from 0 to 1.
        """
        margin = 24
        rng = np.random.default_rng(seed + 1)
        planes = [seed] * num_samples if planes is None else planes
        scenes = {plane: self.scene(plane) for plane in {*planes, *([seed + 99] if mix is not None else [])}}
        movie = np.empty((num_samples, *self.shape))
        weights = {
            plane: _activity(rng, num_samples, len(cells), self.active) for plane, (_, cells) in scenes.items()
        }
        if where is None and len(scenes) == 1:
            ((light, cells),) = scenes.values()
            rows, columns = (slice(margin, margin + length) for length in self.shape)
            still = np.tensordot(weights[seed], cells[:, rows, columns], 1)
            return still + light[rows, columns]
        where = np.zeros((num_samples, 2), dtype=int) if where is None else where
        # All times of a scene at once, which is many times as quick as one after the other.
        images = {
            plane: light + np.tensordot(weights[plane], cells, 1) for plane, (light, cells) in scenes.items()
        }
        for time in range(num_samples):
            image = images[planes[time]][time]
            if mix is not None:
                image = (1 - mix[time]) * image + mix[time] * images[seed + 99][time]
            row, column = margin - where[time, 0], margin - where[time, 1]
            movie[time] = image[row : row + self.shape[0], column : column + self.shape[1]]
        return movie

    def record(self, photons, seed=0):
        """Return what the detector makes of the light."""
        rng = np.random.default_rng(seed + 2)
        counts = rng.poisson(np.maximum(photons, 0)) * self.gain + self.offset
        if self.read_noise:
            counts = counts + rng.normal(0, self.read_noise, counts.shape)
        if self.dtype.startswith("float"):
            return counts.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return np.clip(np.round(counts), limits.min, limits.max).astype(self.dtype)


def _activity(rng, num_samples, num_cells, active):
    """Return 1 at rest, and transients that rise at once and decay within a second."""
    spikes = rng.random((num_samples, num_cells)) < 0.01
    decay = np.exp(-np.arange(int(2 * RATE)) / (0.6 * RATE))
    return 1 + active * np.apply_along_axis(lambda cell: np.convolve(cell, decay)[:num_samples], 0, spikes)


MAKERS = {
    "ScanImage": Maker("int16", gain=12.0, read_noise=15.0, offset=-20.0),
    "ScanImage, dim": Maker("int16", light=1.0, cells=3.0, gain=40.0, read_noise=8.0),
    "ScanImage, bright": Maker("int16", light=60.0, cells=150.0, gain=8.0, active=2.0),
    "Bruker": Maker("uint16", gain=9.0, offset=30.0, read_noise=5.0),
    "Bruker, dim": Maker("uint16", light=0.3, cells=1.0, gain=60.0),
    "Thor": Maker("uint16", gain=20.0, offset=200.0, read_noise=12.0, vignette=0.3),
    "Scanbox": Maker("uint16", gain=400.0, light=10.0, cells=25.0, offset=2000.0, read_noise=100.0),
    "Femtonics": Maker("uint16", gain=15.0, offset=1000.0, read_noise=30.0),
    "photon counting": Maker("uint8", light=0.4, cells=1.5),
    "few photons": Maker("uint8", light=0.05, cells=0.3),
    "Miniscope": Maker("uint8", light=90.0, cells=12.0, size=5.0, offset=10.0, vignette=0.6, active=1.0),
    "Inscopix": Maker("uint16", light=900.0, cells=90.0, size=5.0, offset=100.0, vignette=0.7),
    "sCMOS": Maker("uint16", light=300.0, cells=60.0, gain=2.2, offset=100.0, read_noise=2.0, side=128),
    "sCMOS, dim": Maker("uint16", light=20.0, cells=6.0, gain=2.2, offset=100.0, read_noise=2.0),
    "light sheet": Maker("uint16", light=40.0, cells=40.0, size=2.0, gain=2.0, offset=100.0, read_noise=2.0),
    "registered": Maker("float32", gain=12.0, read_noise=15.0),
    "denoised": Maker("float32", light=400.0, cells=900.0, gain=0.05),
    "64 bit": Maker("float64", gain=1.0, offset=100.0),
    "32 bit": Maker("int32", gain=100.0, offset=5000.0, read_noise=50.0),
    "small field": Maker("uint16", side=40, gain=10.0, offset=100.0, read_noise=5.0),
    "large cells": Maker("uint16", size=9.0, cells=30.0, gain=10.0, offset=100.0, active=3.0),
    "no cells": Maker("uint16", cells=0.0, gain=5.0, offset=100.0),
}


def looked_at(movie):
    """Return the marks and the saturation of a movie, (time, rows, columns)."""
    statistics = FrameStatistics((len(movie), *movie.shape[:0:-1]), movie.dtype)
    for start in range(0, len(movie), 19):
        statistics.add(movie[start : start + 19].swapaxes(1, 2), start)
    assert statistics.missing == []
    survey = MovieSurvey(statistics, len(movie))
    saturation = find_saturation(survey)
    return find_marks(survey, saturation, Timing(len(movie), RATE, 0.0, None)), saturation
