"""Movies that compress as real ones do: cells under shot noise, raw, registered and denoised."""

from __future__ import annotations

import numpy as np


def simulated_movies(num_samples: int) -> dict[str, np.ndarray]:
    """
    Make movies of 96 by 128 pixels.

    :param num_samples: Of each.
    :returns: What was done to it -> the movie.
    """
    shape = (num_samples, 96, 128)
    cells = 60 + 900 * np.exp(-((np.indices(shape[1:]) % 24 - 12) ** 2).sum(axis=0) / 40)
    random = np.random.default_rng(0)
    noisy = random.poisson(np.broadcast_to(cells, shape))
    return {
        "noisy": noisy.astype("int16"),
        "registered": (0.3 * noisy + 0.7 * np.roll(noisy, 1, axis=1)).astype("float32"),
        "denoised": (cells * np.linspace(1, 1.2, num_samples)[:, None, None]).astype("float32"),
        "denoised integers": np.broadcast_to(cells, shape).round().astype("uint16"),
        "constant": np.full(shape, 7, dtype="uint16"),
        "random bytes": random.integers(0, 256, shape, dtype="uint8"),
        "random doubles": random.random(shape),
    }
