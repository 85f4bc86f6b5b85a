"""The report of a conversion is made from what the conversion saw; of any file, from every frame of it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from nwb_files import METADATA, noisy_movie, write_movie

from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.many_workers import fill_share, plan_imaging, publish_imaging
from airflow_provider_ophys.conversion.movie_statistics import STATISTICS_SUFFIX
from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.plan import ParallelImagingConversion
from airflow_provider_ophys.nwb.contents import open_contents
from airflow_provider_ophys.report import sampling
from airflow_provider_ophys.report.conversion import with_report
from airflow_provider_ophys.report.survey import look_at
from airflow_provider_ophys.writing.sharing import Resources, Wish
from airflow_provider_ophys.writing.statistics_file import load_statistics

RESOURCES = Resources(budget_bytes=64 * 2**20, threads=1)


def recording(tmp_path: Path, movie: np.ndarray) -> dict[str, object]:
    np.save(tmp_path / "movie.npy", movie[..., None])
    return {
        "extractor": "Numpy",
        "extractor_kwargs": {"timeseries": str(tmp_path / "movie.npy"), "sampling_frequency": 20.0},
        "metadata": METADATA,
        "report": True,
    }


def by_tasks(num_tasks: int, recording: dict[str, object], path: Path) -> ParallelImagingConversion:
    """A conversion of ten bands of shards."""
    storage = {"acquisition/TwoPhotonSeries/data": {"chunk_shape": [10, 40, 24], "shard_shape": [20, 40, 24]}}
    written = {"nwbfile_path": str(path), "backend": "zarr", "backend_configuration": storage}
    return ParallelImagingConversion.from_options(recording | written | {"num_tasks": num_tasks})


def statistics_beside(path: Path) -> Path:
    return path.with_name(path.name + STATISTICS_SUFFIX)


@pytest.fixture
def read_again(monkeypatch):
    """The frames that reports read from files."""
    read: list[int] = []
    read_blocks = sampling.read_blocks

    def noting(data, sample):
        for first, block in read_blocks(data, sample):
            read.extend(range(first, first + len(block)))
            yield first, block

    monkeypatch.setattr("airflow_provider_ophys.report.movie.read_blocks", noting)
    return read


@pytest.mark.parametrize("chunk_shape", [[16, 40, 24], [32, 16, 16], "traces", [1, 40, 24]])
@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_a_conversion_has_seen_every_frame_when_its_report_is_made(tmp_path, backend, chunk_shape, read_again):
    movie = noisy_movie(150)
    path = tmp_path / f"a.{backend}.nwb"
    storage = {"acquisition/TwoPhotonSeries/data": {"chunk_shape": chunk_shape}}
    conversion = ImagingConversion.from_options(
        recording(tmp_path, movie)
        | {"nwbfile_path": str(path), "backend": backend, "backend_configuration": storage}
    )
    result = with_report(convert_imaging(conversion), Wish(), threading.Event())
    assert result.report is not None, result.report_problem
    assert read_again == []
    assert result.durations["report"] > 0
    (summary,) = result.report.summary["movies"]
    assert summary["samples_looked_at"] == summary["num_samples"] == 150
    assert "every frame (150), while they were written" in Path(result.report.html).read_text()
    (found,) = load_statistics(statistics_beside(path)).values()
    np.testing.assert_array_equal(found.frames["mean"][:, 0], movie.mean(axis=(1, 2)))
    np.testing.assert_array_equal(found.images[0].mean, movie.mean(axis=0))


def test_without_a_report_nothing_is_watched(tmp_path):
    path = tmp_path / "a.nwb"
    options = recording(tmp_path, noisy_movie(50)) | {"nwbfile_path": str(path), "report": False}
    convert_imaging(ImagingConversion.from_options(options))
    assert not statistics_beside(path).exists()


def test_tasks_that_write_together_see_together(tmp_path, read_again):
    movie = noisy_movie(200)
    path = tmp_path / "a.nwb.zarr"
    plan = plan_imaging(by_tasks(4, recording(tmp_path, movie), path), Environment())
    assert len(plan.shares) == 4
    filled = [fill_share(plan, share) for share in reversed(plan.shares)]
    result = with_report(publish_imaging(plan, filled), Wish(), threading.Event())
    assert result.report is not None, result.report_problem
    assert read_again == []
    (found,) = load_statistics(statistics_beside(path)).values()
    np.testing.assert_array_equal(found.frames["mean"][:, 0], movie.mean(axis=(1, 2)))
    assert np.isfinite(found.frames["correlation"][1:]).all()  # across the borders of shares too
    assert [file for file in path.rglob("*") if "frames" in file.name] == []


def test_what_a_killed_task_had_seen_is_read_again_and_nothing_else(tmp_path, read_again):
    movie = noisy_movie(200)
    path = tmp_path / "a.nwb.zarr"
    plan = plan_imaging(by_tasks(2, recording(tmp_path, movie), path))
    filled = [fill_share(plan, share) for share in plan.shares]
    lost = min((Path(plan.part) / plan.dataset_path).glob(".frames-*"))
    lost.unlink()
    result = with_report(publish_imaging(plan, filled), Wish(), threading.Event())
    assert result.report is not None, result.report_problem
    assert sorted(read_again) == list(range(100))
    assert result.report.summary["movies"][0]["samples_looked_at"] == 200


def test_a_file_of_which_nothing_is_known_is_read_as_a_whole(tmp_path, read_again):
    path = write_movie(tmp_path / "a.nwb", noisy_movie(300))
    with open_contents(path) as contents:
        (seen,) = look_at(contents, RESOURCES).movies
    assert sorted(read_again) == list(range(300))
    assert seen.survey.is_whole


def test_a_budget_without_room_for_statistics_converts_and_then_reads_for_the_report(tmp_path, read_again):
    rng = np.random.default_rng(0)
    movie = rng.poisson(90, (8, 600, 600)).astype("uint16")
    path = tmp_path / "a.nwb"
    options = recording(tmp_path, movie) | {"nwbfile_path": str(path), "memory_limit": "40MiB"}
    result = with_report(convert_imaging(ImagingConversion.from_options(options)), Wish(), threading.Event())
    assert not statistics_beside(path).exists()
    assert result.report is not None, result.report_problem
    assert sorted(read_again) == list(range(8))
