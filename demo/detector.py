"""
What a photomultiplier and its amplifier make of photons: shot noise, gain noise and read noise, as int16 counts.

Drawing a Poisson and a gamma variate for each pixel is slow, and a movie has a billion pixels. So the distribution
of the counts is computed once for each of 256 levels of light, as a table of quantiles, and a pixel then costs one
look-up with 12 random bits. Each pixel is still an independent draw, and compresses as a real one does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from demo.tissue import Image

# Counts per photon; the single-photon response of a photomultiplier varies by about half of its mean.
GAIN, GAIN_SHAPE = 22.0, 4.0
READ_NOISE, OFFSET = 8.0, 10.0
# Levels are spaced evenly in the square root of the light, where shot noise has the same width everywhere.
LEVELS, BRIGHTEST_PHOTONS = 256, 40.0
QUANTILES = 4096
QUANTILE_BITS = 12


class Detector:
    """
    Turns expected photons into counts.

    :param seed: The same seed gives the same noise in each frame, in whatever order the frames are asked for.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._table = _quantile_table().reshape(-1)
        self._levels_per_root = np.float32((LEVELS - 1) / np.sqrt(BRIGHTEST_PHOTONS))

    def expose(self, photons: Image, sample: int) -> npt.NDArray[np.int16]:
        """
        Take one frame.

        :param photons: Expected photons of each pixel, shape (rows, columns).
        :param sample: Number of the frame, which chooses its noise.
        """
        roots = np.sqrt(np.clip(photons, 0, BRIGHTEST_PHOTONS))
        places = (roots * self._levels_per_root + np.float32(0.5)).astype(np.intp)
        places <<= QUANTILE_BITS
        bits = np.random.SFC64([self._seed, 1, sample]).random_raw(-(-photons.size // 4))
        chance = bits.view(np.uint16)[: photons.size].reshape(photons.shape)
        places |= chance >> (16 - QUANTILE_BITS)
        return self._table.take(places, mode="clip")


def _quantile_table() -> npt.NDArray[np.int16]:
    """
    Tabulate the counts of each level of light at evenly spaced quantiles, shape (levels, quantiles).

    Counts are a sum of as many gamma variates as a Poisson variate says, and a Gaussian. The characteristic
    function of that is known in closed form; its Fourier transform is the distribution.
    """
    counts = np.arange(-512, 7680)
    angular = 2 * np.pi * np.fft.rfftfreq(counts.size)
    one_photon = (1 - 1j * angular * GAIN / GAIN_SHAPE) ** -GAIN_SHAPE
    photons = np.linspace(0, np.sqrt(BRIGHTEST_PHOTONS), LEVELS)[:, None] ** 2
    characteristic = np.exp(photons * (one_photon - 1) - (READ_NOISE * angular) ** 2 / 2)
    probability = np.roll(np.fft.irfft(characteristic.conj(), counts.size), 512, axis=1)
    cumulative = np.cumsum(np.clip(probability, 0, None), axis=1)
    wanted = (np.arange(QUANTILES) + 0.5) / QUANTILES
    places = [np.searchsorted(level / level[-1], wanted) for level in cumulative]
    return (counts[np.stack(places)] + OFFSET).astype(np.int16)
