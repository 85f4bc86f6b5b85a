"""The report of a file: its images, its outlines, its page, and what it leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
from nwb_files import append_segmentation, noisy_movie, write_movie
from PIL import Image

from airflow_provider_ophys.nwb.contents import open_contents
from airflow_provider_ophys.report.files import find_report, write_report
from airflow_provider_ophys.report.survey import look_at
from airflow_provider_ophys.writing.sharing import Resources

RESOURCES = Resources(budget_bytes=64 * 2**20, threads=1)


def report_on(path, **options):
    return write_report(path, path.parent, path.name, RESOURCES, **options)


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_the_images_are_those_of_the_movie(tmp_path, backend):
    movie = noisy_movie(100)
    with open_contents(write_movie(tmp_path / "a.nwb", movie, backend=backend)) as contents:
        survey = look_at(contents, RESOURCES).movies[0].survey
    np.testing.assert_allclose(survey.mean.T, movie.mean(axis=0))
    np.testing.assert_array_equal(survey.maximum.T, movie.max(axis=0))
    np.testing.assert_allclose(survey.deviation.T, movie.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(survey.intensity, movie.mean(axis=(1, 2)))


def test_a_report_is_a_page_a_picture_and_a_thumbnail(tmp_path):
    path = write_movie(tmp_path / "a.nwb", noisy_movie())
    append_segmentation(path)
    report = report_on(path, made_from="this")
    assert report.html == str(tmp_path / "a.nwb.report.html")
    assert report.png == str(tmp_path / "a.nwb.report.png")
    with Image.open(report.png) as picture, Image.open(report.thumbnail) as small:
        assert picture.width > 1000
        assert max(small.size) == 320
    assert find_report(tmp_path, "a.nwb", "this") == report
    assert find_report(tmp_path, "a.nwb", "another") is None
    assert {found.name for found in tmp_path.iterdir()} == {
        f"a.nwb{suffix}" for suffix in ("", ".report.html", ".report.png", ".report.thumbnail.png")
    }
