"""The report of a file: its images, its outlines, its page, and what it leaves behind."""

from __future__ import annotations

import json
import resource
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.path import Path as Polygon
from nwb_files import METADATA, append_segmentation, noisy_movie, write_movie
from PIL import Image
from pynwb import NWBHDF5IO
from pynwb.testing.mock.ophys import mock_TwoPhotonSeries

from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.nwb.contents import open_contents
from airflow_provider_ophys.nwb.nwbfile import make_nwbfile
from airflow_provider_ophys.report.files import find_report, write_report
from airflow_provider_ophys.report.panels import Montage, draw_image, spread_out
from airflow_provider_ophys.report.rois import borders
from airflow_provider_ophys.report.survey import look_at
from airflow_provider_ophys.writing.sharing import Resources

RESOURCES = Resources(budget_bytes=64 * 2**20, threads=1)


def report_on(path, **options):
    return write_report(path, path.parent, path.name, RESOURCES, **options)


def looked_at(path):
    with open_contents(path) as contents:
        return look_at(contents, RESOURCES)


def foreign_file(path, data, **options):
    """A file that pynwb wrote, with data in NWB's axis order: (time, columns, rows[, planes])."""
    nwbfile = make_nwbfile(validate_metadata(METADATA))
    mock_TwoPhotonSeries(name="Movie", data=data, nwbfile=nwbfile, **{"rate": 5.0, **options})
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_the_images_are_those_of_the_movie(tmp_path, backend):
    movie = noisy_movie(100)
    survey = looked_at(write_movie(tmp_path / "a.nwb", movie, backend=backend)).movies[0].survey
    np.testing.assert_allclose(survey.mean.T, movie.mean(axis=0))
    np.testing.assert_array_equal(survey.maximum.T, movie.max(axis=0))
    np.testing.assert_allclose(survey.deviation.T, movie.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(survey.intensity, movie.mean(axis=(1, 2)))


@pytest.mark.parametrize("dtype", ["int8", "int32", "float32", "float64"])
def test_images_are_precise_on_a_large_offset(tmp_path, dtype):
    offset = 100 if dtype == "int8" else 100_000
    movie = (np.random.default_rng(0).normal(0, 5, (80, 6, 7)) + offset).astype(dtype)
    survey = looked_at(foreign_file(tmp_path / "a.nwb", movie)).movies[0].survey
    np.testing.assert_allclose(survey.mean, movie.mean(axis=0, dtype="float64"), rtol=1e-6)
    np.testing.assert_allclose(survey.deviation, movie.std(axis=0, dtype="float64"), rtol=1e-3)


def test_a_pattern_appears_the_right_way_up(tmp_path):
    """An L: its stem along the left edge, its foot along the bottom, in the frame as the microscope shows it."""
    frame = np.zeros((20, 32), dtype="uint16")
    frame[:, :4] = 1000
    frame[-3:, :16] = 1000
    seen = looked_at(write_movie(tmp_path / "a.nwb", np.repeat(frame[None], 10, axis=0))).movies[0]
    figure = Figure(figsize=(3.2, 2), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_image(axes, seen.survey.mean, Montage.of((32, 20)), step=1, title="", unit="")
    axes.set_axis_off()
    figure.savefig(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as picture:
        grey = np.asarray(picture.convert("L"))  # 10 pixels per pixel of the frame
    np.testing.assert_array_equal(grey[5::10, 5::10] > 128, frame > 0)
    with Image.open(report_on(tmp_path / "a.nwb").thumbnail) as picture:
        small = np.asarray(picture.convert("L").resize((32, 20)))
    np.testing.assert_array_equal(small > 128, frame > 0)


def test_every_plane_of_a_volume_has_its_place(tmp_path):
    volume = np.zeros((10, 9, 7, 5), dtype="uint16")
    for plane in range(5):
        volume[:, plane, 2, plane] = 100 + plane
    seen = looked_at(foreign_file(tmp_path / "a.nwb", volume))
    montage = Montage.of((9, 7, 5))
    picture = montage.picture(seen.movies[0].survey.mean, 1)
    for place, plane in enumerate(montage.planes):
        column, row = montage.corner(place)
        assert picture[row + 2, column + plane] == 100 + plane
    assert np.nansum(picture) == sum(range(100, 105))
    assert seen.summary()["movies"][0]["plane_means"] == pytest.approx([(100 + p) / 63 for p in range(5)])
    report_on(tmp_path / "a.nwb")


@pytest.mark.parametrize("mask_type", ["image", "pixel"])
def test_outlines_enclose_their_pixels_and_no_others(tmp_path, mask_type):
    path = write_movie(tmp_path / "a.nwb", noisy_movie(20))
    extractor = append_segmentation(path, mask_type=mask_type)
    (seen,) = looked_at(path).segmentations
    masks = extractor.get_roi_image_masks() != 0  # (rows, columns, ROIs)
    assert {outline.roi for outline in seen.outlines} == set(range(6))
    for outline in seen.outlines:
        np.testing.assert_array_equal(enclosed(outline.loops, masks.shape[:2]), masks[:, :, outline.roi])


@pytest.mark.parametrize(
    "places", [[0.5, 0.5, 0.5], [0.99, 1.0, 0.98, 0.1], [0.0, 0.01, 0.5, 0.52], [-3.0, 0.4, 7.0], [0.3]]
)
def test_numbers_beside_curves_do_not_overlap_and_stay_in_their_order(places):
    places = np.array(places)
    found = spread_out(places, 0.05)
    order = np.argsort(places, kind="stable")
    assert np.diff(found[order]).min(initial=1) >= 0.05 - 1e-9
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.abs(found - places.clip(0, 1)).max() <= 0.05 * len(places)


def test_outlines_of_rings_and_of_pixels_that_touch_at_corners():
    shape = np.zeros((8, 9), dtype=bool)
    shape[1:6, 2:7] = True
    shape[3, 4] = False  # a hole
    shape[6, 7] = shape[7, 0] = True  # touches at a corner; lies apart
    rows, columns = np.nonzero(shape)
    np.testing.assert_array_equal(enclosed(tuple(borders(np.column_stack([columns, rows]))), shape.shape), shape)


def enclosed(loops, shape):
    """Tell which pixels, (rows, columns), have their centre inside an odd number of loops."""
    rows, columns = np.indices(shape)
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    inside = sum(Polygon(loop).contains_points(centres).astype(int) for loop in loops)
    return (inside % 2 == 1).reshape(shape)


def test_metadata_stays_text(tmp_path):
    evil = "<script>alert(1)</script>$x^{ \u65e5\u672c & <img src=x onerror=alert(2)>"
    metadata = {
        "NWBFile": {**METADATA["NWBFile"], "session_description": evil},
        "Devices": {"d": {"name": evil.replace("/", "")}},
        "Ophys": {
            "ImagingPlanes": {
                "p": {
                    "name": "P",
                    "device_metadata_key": "d",
                    "excitation_lambda": "nan",
                    "indicator": evil,
                    "location": "unknown",
                    "grid_spacing": [4.2968749e-6, 5.73e-6],
                    "optical_channel": [{"name": "c", "description": "d", "emission_lambda": "nan"}],
                }
            },
            "MicroscopySeries": {"s": {"name": "$S^{", "unit": evil, "imaging_plane_metadata_key": "p"}},
        },
    }
    path = write_movie(tmp_path / "a<b>&.nwb", noisy_movie(20), metadata=metadata)
    report = report_on(path)
    page = Page((tmp_path / "a<b>&.nwb.report.html").read_text())
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "link", "form"}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 5
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(evil) >= 3
    assert "a<b>&.nwb" in page.text
    assert "P.excitation_lambda, P.location" in page.text  # the placeholders
    assert "excitation unknown" in page.text
    assert "grid spacing 4.3e-06 x 5.73e-06 meters" in page.text
    assert json.dumps(report.summary)


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


@pytest.mark.filterwarnings("ignore:The 'manufacturer' field is deprecated")  # it is an old file
def test_files_of_others_have_reports_too(tmp_path, shared_data):
    path = tmp_path / "one_photon.nwb"
    path.write_bytes((shared_data / "one_photon_nwb" / "movie.nwb").read_bytes())
    (movie,) = report_on(path).summary["movies"]
    assert movie["samples_looked_at"] == movie["num_samples"] == 200


def test_a_file_without_pictures_has_a_report_that_says_so(tmp_path):
    nwbfile = make_nwbfile(validate_metadata(METADATA))
    with NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    report = report_on(tmp_path / "a.nwb")
    assert report.summary == {
        "movies": [],
        "segmentations": [],
        "left_out": {},
        "concerns": ["a field holds a placeholder: NWBFile.session_description"],
    }
    assert "a field holds a placeholder" in Path(report.html).read_text()


def test_what_is_wrong_with_the_file_stands_above_all(tmp_path):
    path = foreign_file(tmp_path / "a.nwb", np.zeros((30, 8, 8), dtype="uint16"), starting_time=1.55e9)
    finding = {"importance": "CRITICAL", "check": "c", "message": "It is <wrong>", "location": "/general"}
    report = report_on(
        path, result={"inspection": [finding, finding | {"importance": "BEST_PRACTICE_SUGGESTION"}]}
    )
    findings, start, *_ = report.summary["concerns"]
    assert findings == "nwbinspector, CRITICAL: It is <wrong> (/general)"
    assert start == "Movie begins 49 years after the session's start"
    page = Path(report.html).read_text()
    assert page.index("It is &lt;wrong&gt;") < page.index("Movie: checked in every frame")
    assert "nothing remarkable" not in page


def test_samples_of_a_movie_of_a_terabyte_are_reported_in_bounded_memory_and_time(tmp_path):
    """A virtual dataset: 2,000,000 frames that all come from a few on the disk."""
    path = foreign_file(tmp_path / "a.nwb", np.zeros((1, 4, 4), dtype="uint16"))
    shape = (2_000_000, 512, 512)
    with h5py.File(path, "r+") as file:
        group = file["acquisition/Movie"]
        attributes = dict(group["data"].attrs)
        del group["data"]
        frames = np.random.default_rng(0).integers(0, 4000, (16, 512, 512)).astype("uint16")
        stored = file.create_dataset("frames", data=frames, chunks=(16, 512, 512))
        layout = h5py.VirtualLayout(shape, "uint16")
        for place in np.linspace(0, 1_999_984, 200).astype(int):
            layout[place : place + 16] = h5py.VirtualSource(stored)
        group.create_virtual_dataset("data", layout)
        group["data"].attrs.update(attributes)
    before = resource.getrusage(resource.RUSAGE_SELF)
    resources = Resources(budget_bytes=256 * 2**20, threads=1)
    report = write_report(path, tmp_path, path.name, resources, sample=128 * 2**20)
    (movie,) = report.summary["movies"]
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert movie["num_samples"] == shape[0]
    assert movie["samples_looked_at"] * 512 * 512 * 2 <= 128 * 2**20
    assert (after.ru_maxrss - before.ru_maxrss) * 1024 < 2 * resources.budget_bytes
