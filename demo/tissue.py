"""
What a two-photon microscope looks at: neurons that flicker, neuropil between them, and a brain that moves.

Everything here is free of noise and in photons per pixel and frame; :mod:`demo.detector` turns that into what a
detector reports. Images have the axes (row, column), traces (neuron, frame).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

type Image = npt.NDArray[np.float32]
type Indices = npt.NDArray[np.intp]

# The brain never moves further than this, so no neuron leaves the field of view. Pixels.
MARGIN = 6
LARGEST_RADIUS = 7.5
SHARE_OF_CELLS = 0.8
# Relative to the brightest; what is fainter no longer belongs to a neuron.
FAINTEST_PIXEL = 0.1
# Rise and decay of GCaMP6f in vivo. Seconds.
CALCIUM_RISE, CALCIUM_DECAY = 0.06, 0.55
# An eighth of the fluorescence bleaches, within a minute or so. Seconds.
BLEACHED_SHARE, BLEACHING_TIME = 0.12, 45.0


@dataclass(frozen=True)
class Neuron:
    """
    One structure that shows activity, where it is when nothing moves.

    :param rows: Row of each of its pixels.
    :param columns: Column of each of its pixels.
    :param weights: Brightness of each pixel relative to the others; the sum is 1.
    :param photons: Photons per frame that its mean pixel sends at rest, beyond what the neuropil sends.
    :param is_cell: False for the pieces of dendrite that a segmentation finds and a curator rejects.
    """

    rows: Indices
    columns: Indices
    weights: Image
    photons: float
    is_cell: bool


class Tissue:
    """
    A field of view over time.

    :param num_samples: Number of frames.
    :param num_rows: Height of a frame, in pixels.
    :param num_columns: Width of a frame, in pixels.
    :param num_rois: Number of structures, cells and rejected ones together.
    :param sampling_frequency: Frames per second.
    :param seed: The same seed gives the same tissue.
    :raises ValueError: When so many structures do not fit into the frame.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        num_rows: int,
        num_columns: int,
        num_rois: int,
        sampling_frequency: float,
        seed: int,
    ) -> None:
        rng = np.random.default_rng([seed, 0])
        self.shape = (num_rows, num_columns)
        self.neurons = _place_neurons(rng, self.shape, num_rois)
        self._activity = _activity(rng, self.neurons, num_samples, sampling_frequency)
        self._motion = _motion(rng, num_samples)
        seconds = np.arange(num_samples) / sampling_frequency
        self._bleaching = 1 - BLEACHED_SHARE * (1 - np.exp(-seconds / BLEACHING_TIME))
        self._neuropil = 1 + 0.06 * _slow_noise(rng, num_samples, memory=0.97)
        self._background = _background(rng, (num_rows + 2 * MARGIN, num_columns + 2 * MARGIN))
        self._list_pixels()

    def shift(self, sample: int) -> tuple[int, int]:
        """Tell how far down and right a frame is displaced, in whole pixels: what registration would find."""
        down, right = self._motion[sample]
        return round(float(down)), round(float(right))

    def photons(self, sample: int, *, active: bool = True) -> Image:
        """
        Give the expected photons of each pixel of a frame, shape (rows, columns).

        :param active: Whether the fluorescence follows the neurons' activity, or only marks them.
        """
        scene = self._background * np.float32(self._neuropil[sample] if active else 1)
        activity = self._activity[self._owners, sample] if active else 0
        scene.reshape(-1)[self._places] += self._at_rest * (1 + activity)
        scene *= np.float32(self._bleaching[sample])
        # What moved down by 1.25 pixels is what lay 1.25 rows further up.
        up, left = MARGIN - self._motion[sample]
        return _between(_between(scene, up, self.shape[0]).T, left, self.shape[1]).T

    def _list_pixels(self) -> None:
        """List all pixels of all neurons: place in the padded scene, photons at rest, and whose they are."""
        width = self._background.shape[1]
        sizes = [neuron.weights.size for neuron in self.neurons]
        self._places = np.concatenate([(n.rows + MARGIN) * width + n.columns + MARGIN for n in self.neurons])
        self._at_rest = np.concatenate([n.weights * np.float32(n.photons * n.weights.size) for n in self.neurons])
        self._owners = np.repeat(np.arange(len(sizes)), sizes)


def _between(scene: Image, start: float, length: int) -> Image:
    """Cut ``length`` rows out of a scene, from a place between two rows on."""
    first = int(np.floor(start))
    share = np.float32(start - first)
    near, far = scene[first : first + length], scene[first + 1 : first + 1 + length]
    return near + share * (far - near)


def _place_neurons(rng: np.random.Generator, shape: tuple[int, int], num_rois: int) -> list[Neuron]:
    """Scatter neurons that do not touch each other and stay clear of the edges."""
    edge = MARGIN + int(LARGEST_RADIUS) + 1
    distance = 2 * LARGEST_RADIUS + 2
    rows, columns = np.indices(shape)
    free = (rows >= edge) & (rows < shape[0] - edge) & (columns >= edge) & (columns < shape[1] - edge)
    centres: list[tuple[int, int]] = []
    for row, column in rng.permutation(np.argwhere(free)):
        if len(centres) < num_rois and free[row, column]:
            centres.append((int(row), int(column)))
            free &= np.hypot(rows - row, columns - column) > distance
    if len(centres) < num_rois:
        raise ValueError(
            f"{num_rois} neurons do not fit into frames of {shape[0]} x {shape[1]} pixels, only {len(centres)} "
            "do: ask for fewer neurons or for larger frames."
        )
    return [_neuron(rng, centre, is_cell=bool(rng.random() < SHARE_OF_CELLS)) for centre in centres]


def _neuron(rng: np.random.Generator, centre: tuple[int, int], *, is_cell: bool) -> Neuron:
    """Draw a soma, whose nucleus is darker as the indicator stays outside, or a thin piece of dendrite."""
    radii = rng.uniform(4.5, 6.5, 2) if is_cell else np.array([6.5, 1.8])
    angle = rng.uniform(0, np.pi)
    reach = int(LARGEST_RADIUS)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    distance = np.hypot(along / radii[0], across / radii[1])
    profile = np.clip((1.15 - distance) / 0.3, 0, 1) * (0.55 + 0.45 * np.clip(distance, 0, 1) ** 2)
    inside = profile > FAINTEST_PIXEL
    return Neuron(
        rows=y[inside] + centre[0],
        columns=x[inside] + centre[1],
        weights=(profile[inside] / profile[inside].sum()).astype(np.float32),
        photons=float(rng.uniform(1.5, 5.0) if is_cell else rng.uniform(1.0, 2.0)),
        is_cell=is_cell,
    )


def _activity(
    rng: np.random.Generator, neurons: list[Neuron], num_samples: int, sampling_frequency: float
) -> npt.NDArray[np.float32]:
    """Draw spikes and give the change of fluorescence over rest (dF/F) that follows, shape (neuron, frame)."""
    is_cell = np.array([neuron.is_cell for neuron in neurons])
    rate = np.where(is_cell, rng.uniform(0.15, 0.8, len(neurons)), 0.1)
    gain = np.where(is_cell, rng.uniform(0.3, 0.7, len(neurons)), 0.15)
    spikes = rng.poisson(rate[:, None] / sampling_frequency, (len(neurons), num_samples))
    decay, rise = np.exp(-1 / sampling_frequency / np.array([CALCIUM_DECAY, CALCIUM_RISE]))
    activity = np.empty((len(neurons), num_samples), np.float32)
    slow, fast = np.zeros(len(neurons)), np.zeros(len(neurons))
    for sample in range(num_samples):
        slow, fast = decay * slow + spikes[:, sample], rise * fast + spikes[:, sample]
        activity[:, sample] = gain * (slow - fast)
    return activity


def _motion(rng: np.random.Generator, num_samples: int) -> npt.NDArray[np.float64]:
    """Draw how far the brain is from where it belongs (down, right), in pixels: slow drift and a little jitter."""
    axes = [
        1.2 * _slow_noise(rng, num_samples, memory=0.96) + 0.2 * rng.standard_normal(num_samples) for _ in range(2)
    ]
    return np.clip(np.stack(axes, axis=1), 1 - MARGIN, MARGIN - 1)


def _slow_noise(rng: np.random.Generator, num_samples: int, *, memory: float) -> npt.NDArray[np.float64]:
    """Draw noise of unit variance that keeps the share ``memory`` of itself from frame to frame."""
    steps = rng.standard_normal(num_samples) * np.sqrt(1 - memory**2)
    value = float(rng.standard_normal())
    noise = np.empty(num_samples)
    for sample, step in enumerate(steps):
        noise[sample] = value = memory * value + step
    return noise


def _background(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw the neuropil at rest: textured, darker towards the corners, crossed by dark blood vessels."""
    rows, columns = (np.linspace(-1, 1, side) for side in shape)
    texture = 1 + 0.25 * _blurred_noise(rng, shape, pixels=2.5) + 0.2 * _blurred_noise(rng, shape, pixels=20)
    light = np.exp(-0.35 * (rows[:, None] ** 2 + columns**2))
    vessels = np.ones(shape)
    for _ in range(3):
        angle, place, bend = rng.uniform(0, np.pi), rng.uniform(-0.7, 0.7), rng.uniform(1, 4)
        along = np.cos(angle) * rows[:, None] + np.sin(angle) * columns
        across = np.cos(angle) * columns - np.sin(angle) * rows[:, None] - place + 0.1 * np.sin(bend * along)
        vessels *= 1 - 0.8 * np.exp(-((across / 0.025) ** 2))
    return (1.6 * light * vessels * np.clip(texture, 0.3, None)).astype(np.float32)


def _blurred_noise(rng: np.random.Generator, shape: tuple[int, int], *, pixels: float) -> npt.NDArray[np.float64]:
    """Draw noise of unit variance, blurred by a Gaussian of so many pixels."""
    frequencies = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    blur = np.exp(-2 * (np.pi * pixels * frequencies) ** 2)
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * blur, shape)
    return (noise - noise.mean()) / noise.std()
