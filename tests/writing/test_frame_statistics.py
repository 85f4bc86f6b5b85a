"""Statistics of frames: exact, whatever the blocks, their order and the process that saw them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from airflow_provider_ophys.writing.frame_statistics import FrameStatistics, pixel_step, statistics_bytes
from airflow_provider_ophys.writing.statistics_file import load_statistics, save_statistics

RANDOM = np.random.default_rng(0)


def movie_of(dtype: str, shape: tuple[int, ...] = (70, 33, 45)) -> np.ndarray:
    """Return (samples, rows, columns) that use all of their type's range, and as many that use little of it."""
    if dtype.startswith("float"):
        return (RANDOM.normal(0, 5, shape) + 1000).astype(dtype)
    limits = np.iinfo(dtype if np.dtype(dtype).itemsize < 8 else "int32")
    movie = RANDOM.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    movie[: len(movie) // 2] //= 20
    return movie


def seen(movie: np.ndarray, spans: list[tuple[int, int]] | None = None, **options: int) -> FrameStatistics:
    """Return the statistics of a movie, (samples, rows, columns[, planes]), from blocks in this order."""
    stored = movie.swapaxes(1, 2)
    statistics = FrameStatistics(stored.shape, movie.dtype, **options)
    for start, stop in spans or [(0, len(movie))]:
        statistics.add(stored[start:stop], start)
    return statistics


def blocks(count: int, length: int) -> list[tuple[int, int]]:
    return [(start, min(start + length, count)) for start in range(0, count, length)]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_every_frame_and_pixel_is_counted_exactly(dtype):
    movie = movie_of(dtype)
    found = seen(movie, blocks(len(movie), 16))
    frames = found.frames[:, 0]
    np.testing.assert_allclose(frames["mean"], movie.mean(axis=(1, 2), dtype="f8"), rtol=1e-12)
    np.testing.assert_array_equal(frames["least"], movie.min(axis=(1, 2)))
    np.testing.assert_array_equal(frames["most"], movie.max(axis=(1, 2)))
    np.testing.assert_array_equal(frames["zeros"], (movie == 0).sum(axis=(1, 2)))
    (images,) = found.images
    np.testing.assert_allclose(images.mean, movie.mean(axis=0, dtype="f8"), rtol=1e-12)
    np.testing.assert_array_equal(images.maximum, movie.max(axis=0))
    np.testing.assert_allclose(images.deviation, movie.std(axis=0, dtype="f8"), rtol=1e-5)
    assert found.missing == []


@pytest.mark.parametrize("length", [1, 7, 64, 70])
def test_neither_the_length_of_blocks_nor_their_order_changes_anything(length):
    movie = movie_of("uint16")
    movie[40] = movie[39]  # a frame twice, also at the border of a block
    spans = blocks(len(movie), length)
    in_order = seen(movie)
    shuffled = seen(movie, [spans[place] for place in RANDOM.permutation(len(spans))])
    for name in ("mean", "least", "most", "zeros", "correlation", "shift_x", "shift_y", "is_repeat"):
        np.testing.assert_allclose(shuffled.frames[name], in_order.frames[name], rtol=1e-4, atol=1e-4)
    assert np.flatnonzero(in_order.frames["is_repeat"]).tolist() == [40]
    np.testing.assert_array_equal(shuffled.images[0].mean, in_order.images[0].mean)
    np.testing.assert_allclose(shuffled.images[0].deviation, in_order.images[0].deviation, rtol=1e-5)
    np.testing.assert_allclose(shuffled.slices, in_order.slices, rtol=1e-6)


def test_images_are_precise_on_a_large_offset_even_after_blank_frames():
    movie = (RANDOM.normal(0, 5, (200, 12, 13)) + 60_000).astype("uint16")
    movie[:3] = 0
    (images,) = seen(movie, blocks(200, 8)).images
    np.testing.assert_allclose(images.deviation, movie.std(axis=0), rtol=1e-5)


def test_the_deviation_is_that_of_every_frame_though_neighbours_are_compared_in_some():
    movie = RANDOM.integers(400, 600, (60, 33, 45), dtype="uint16")
    movie[7, 5, 5] = 60_000
    found = seen(movie, blocks(len(movie), 13), num_seen=10_000_000)
    assert found.compared_step > len(movie)
    np.testing.assert_allclose(found.images[0].deviation, movie.std(axis=0, dtype="f8"), rtol=1e-5)


def test_what_was_seen_in_parts_is_merged_and_survives_in_a_file(tmp_path):
    movie = movie_of("int16", (90, 20, 40))
    shares = [blocks(90, 10)[first : first + 3] for first in (6, 0, 3)]
    files = []
    for number, share in enumerate(shares):
        files.append(tmp_path / f"{number}.npz")
        save_statistics(files[-1], {"movie": seen(movie, share)})
    together, *others = (load_statistics(file)["movie"] for file in files)
    assert together.missing == [range(60)]
    assert all(together.merge(other) for other in others)
    assert not together.merge(load_statistics(files[0])["movie"])  # twice is once
    whole = seen(movie)
    assert together.missing == []
    for name in set(whole.frames.dtype.names) - {"tops"}:  # which are counted from each block's brightest on
        np.testing.assert_allclose(together.frames[name], whole.frames[name], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(together.images[0].mean, whole.images[0].mean)
    np.testing.assert_allclose(together.images[0].deviation, whole.images[0].deviation, rtol=1e-5)
    np.testing.assert_allclose(together.images[0].likeness, whole.images[0].likeness, atol=1e-5)
    np.testing.assert_array_equal(together.pixels, whole.pixels)


def test_each_plane_of_a_volume_has_its_own():
    volume = movie_of("uint16", (30, 16, 18))[..., None] // np.array([1, 2, 4], dtype="uint16")
    found = seen(volume, blocks(30, 7))
    np.testing.assert_allclose(found.frames["mean"], volume.mean(axis=(1, 2)))
    for plane in range(3):
        np.testing.assert_allclose(found.images[plane].mean, volume[..., plane].mean(axis=0))


def test_neighbours_that_blink_together_are_alike():
    movie = RANDOM.normal(100, 5, (300, 24, 24))
    movie[:, 8:14, 8:14] += RANDOM.exponential(20, 300)[:, None, None]
    (images,) = seen(movie.astype("uint16"), blocks(300, 50)).images
    assert images.likeness[9:13, 9:13].min() > 0.8
    assert abs(images.likeness[16:, 16:].mean()) < 0.05


@pytest.mark.parametrize("moved", [(9, -8), (-6, 3), (0, 12)])
def test_a_shift_is_found_with_its_direction(moved):
    scene = np.zeros((160, 160))
    rows, columns = np.indices(scene.shape)
    for row, column in RANDOM.uniform(10, 150, (60, 2)):
        scene += 500 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 40)
    movie = RANDOM.poisson(np.repeat(scene[None] + 50, 20, axis=0))
    movie[10:] = np.roll(movie[10:], (moved[1], moved[0]), axis=(1, 2))
    frames = seen(movie.astype("uint16"), blocks(20, 5)).frames[:, 0]
    assert (frames["shift_x"][10], frames["shift_y"][10]) == pytest.approx(moved, abs=2)
    others = np.delete(frames[1:], 9)
    assert np.abs(others["shift_x"]).max() < 2
    assert np.abs(others["shift_y"]).max() < 2


def test_the_brightest_values_are_counted_exactly():
    movie = RANDOM.poisson(200, (64, 30, 30)).astype("uint16")
    movie[[3, 3, 50], [1, 2, 3], [4, 5, 6]] = 4095
    movie[10, 0, 0] = 4090
    found = seen(movie, blocks(64, 8))
    assert found.tops == {4090.0: 1, 4095.0: 3}
    assert found.frames["tops"][[3, 50], 0].tolist() == [2, 1]


def test_pixels_that_are_no_numbers_count_as_nothing():
    movie = movie_of("float32")
    movie[:, 0] = np.nan
    found = seen(movie)
    assert np.isfinite(found.frames["mean"]).all()
    assert np.isfinite(found.images[0].deviation).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 40), (3, 40, 1), (5, 2, 3), (2, 700, 3)])
def test_frames_of_any_shape_are_looked_at(shape):
    movie = movie_of("uint16", shape)
    np.testing.assert_allclose(seen(movie).frames["mean"][:, 0], movie.mean(axis=(1, 2)))
    assert seen(movie).missing == []


def test_a_million_frames_take_little_memory():
    shape = (1_000_000, 512, 512)
    step = pixel_step(shape, np.dtype("int16"), 32 * 2**20)
    assert statistics_bytes(shape, np.dtype("int16"), step) < 100e6


def test_what_is_no_such_file_holds_nothing(tmp_path):
    for number, content in enumerate((b"", b"PK\x03\x04", b"nothing")):
        (tmp_path / f"{number}.npz").write_bytes(content)
    np.savez(tmp_path / "4.npz", header=np.array('{"version": 0}'))
    for file in itertools.chain(tmp_path.iterdir(), [tmp_path / "absent.npz"]):
        assert load_statistics(file) == {}
