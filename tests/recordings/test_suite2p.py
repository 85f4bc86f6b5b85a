"""suite2p's folders: the plane that is checked is the one that is read, and nothing in it runs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import PureWindowsPath

import numpy as np
import pytest
from cell_recordings import COLUMNS, RATE, ROWS, suite2p, suite2p_plane, traces

from airflow_provider_ophys.conversion.environment import Defaults, Environment
from airflow_provider_ophys.conversion.run import convert_segmentation
from airflow_provider_ophys.exceptions import ConfigurationError, SourceChangedError, SourceDataError
from airflow_provider_ophys.extractors import open_segmentation
from airflow_provider_ophys.models.conversion import SegmentationConversion
from airflow_provider_ophys.models.metadata import merge_metadata, validate_metadata
from airflow_provider_ophys.recordings import format_of, recording_of
from airflow_provider_ophys.recordings.state import SourceState, fingerprint

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
LONG_AGO = 1_700_000_000
RAN = []


class Command:
    """Pickles as a call of a function here."""

    def __reduce__(self):
        return RAN.append, (True,)


def arguments(folder, **more):
    return {"folder_path": str(folder)} | more


def recording(folder, **more):
    return recording_of("segmentation", "Suite2p", arguments(folder, **more))


def raw_traces(folder, **more):
    return np.asarray(open_segmentation("Suite2p", arguments(folder, **more)).get_traces(name="raw"))


def forge(plane, name="ops.npy"):
    forged = np.empty((), dtype=object)
    forged[()] = Command()
    np.save(plane / name, forged, allow_pickle=True)


@pytest.fixture(autouse=True)
def _nothing_ran():
    yield
    assert not RAN


def test_the_plane_that_is_checked_is_the_one_that_is_read(tmp_path):
    """Whatever order a reader has: names of equal numbers, of other lengths, and with more behind the number."""
    for number, name in enumerate(("plane1", "plane10", "plane2", "plane00", "plane0_old", "plane")):
        suite2p_plane(tmp_path / name, seed=number)
    assert recording(tmp_path).reading() == ("Suite2p", arguments(tmp_path, plane_name="plane00"))
    assert np.array_equal(raw_traces(tmp_path), traces(5, 8, 3).T)
    forge(tmp_path / "plane00")
    with pytest.raises(SourceDataError, match=r"plane00/ops.npy is not read: it refers to"):
        raw_traces(tmp_path)
    assert np.array_equal(raw_traces(tmp_path, plane_name="plane1"), traces(5, 8, 0).T)


@pytest.mark.parametrize("name", ["ops.npy", "stat.npy"])
def test_what_is_forged_after_the_check_does_not_run(tmp_path, name):
    """The extractor is given what was checked, whatever is in the file by then."""
    folder = suite2p(tmp_path / "suite2p")
    changed = []

    def forge_when_a_trace_is_opened(event, args):
        if event == "open" and str(args[0]).endswith("iscell.npy") and not changed:
            changed.append(True)
            forge(folder / "plane0", name)

    sys.addaudithook(forge_when_a_trace_is_opened)
    assert np.array_equal(raw_traces(folder), traces(5, 8, 0).T)
    assert changed
    with pytest.raises(SourceDataError, match="is not read"):
        raw_traces(folder)


def test_the_platform_may_allow_what_is_not_data(tmp_path):
    folder = suite2p(tmp_path / "suite2p")
    options = np.load(folder / "plane0" / "ops.npy", allow_pickle=True).item() | {"mine": slice(1, 3)}
    np.save(folder / "plane0" / "ops.npy", np.array(options, dtype=object), allow_pickle=True)
    conversion = SegmentationConversion(
        extractor="Suite2p",
        extractor_kwargs=arguments(folder),
        nwbfile_path=str(tmp_path / "cells.nwb"),
        metadata=METADATA,
    )
    with pytest.raises(SourceDataError, match="builtins.slice, which is not data"):
        convert_segmentation(conversion)
    result = convert_segmentation(conversion, Environment(defaults=Defaults(allow_pickle=True)))
    assert result.num_rois == 5


def test_options_that_were_written_on_windows_are_read(tmp_path):
    folder = suite2p(tmp_path / "suite2p", data_path=[PureWindowsPath("D:/data/m1")])
    file = folder / "plane0" / "ops.npy"
    content = file.read_bytes().replace(b"\x8c\x0fPureWindowsPath", b"\x8c\x0bWindowsPath")
    # A frame says how long it is.
    frame = content.index(b"\x80\x04\x95")
    file.write_bytes(content[: frame + 2] + content[frame + 11 :])
    with pytest.raises(NotImplementedError, match="WindowsPath"):
        np.load(file, allow_pickle=True)
    assert open_segmentation("Suite2p", arguments(folder)).options["data_path"] == [PureWindowsPath("D:/data/m1")]


@pytest.mark.parametrize("kind", ["empty statistics", "statistics of numbers", "no statistics"])
def test_a_plane_without_rois_has_its_mean_image(tmp_path, kind):
    folder = suite2p(tmp_path / "suite2p")
    suite2p_plane(folder / "plane1", rois=0, seed=7, timing={"detection": 1.0})
    if kind == "statistics of numbers":  # as suite2p 1 writes them
        np.save(folder / "plane1" / "stat.npy", np.array([]))
    elif kind == "no statistics":  # as suite2p 0.14 leaves them out
        (folder / "plane1" / "stat.npy").unlink()
    cells = open_segmentation("Suite2p", arguments(folder, plane_name="plane1"))
    assert cells.get_num_rois() == 0
    assert np.array_equal(cells.get_images_dict()["mean"], np.random.default_rng(7).random((ROWS, COLUMNS)))
    first, second = recording(folder).contents().segmentations
    assert (first.num_rois, first.num_samples) == (5, 8)
    assert (second.num_rois, second.num_samples, second.rate) == (0, None, RATE)
    assert recording(folder).contents().remarks == ["suite2p found no ROI in plane1."]
    result = convert_segmentation(
        SegmentationConversion(
            extractor="Suite2p",
            extractor_kwargs=[first.extractor_kwargs, second.extractor_kwargs],
            nwbfile_path=str(tmp_path / "cells.nwb"),
            metadata=METADATA,
        )
    )
    assert result.num_rois == 5


def test_a_plane_that_suite2p_is_not_done_with_is_not_empty(tmp_path):
    folder = suite2p(tmp_path / "suite2p", rois=0)
    (folder / "plane0" / "stat.npy").unlink()
    with pytest.raises(SourceChangedError, match=r"plane0 is not whole: it lacks stat.npy, F.npy"):
        recording(folder).check()


def test_planes_and_channels_are_told_apart(tmp_path):
    folder = suite2p(tmp_path / "suite2p", planes=11, second=True)
    shutil.copytree(folder / "plane0", folder / "combined")
    found = recording(folder).contents()
    assert [(each.plane, each.channel) for each in found.segmentations[:3]] == [
        (0, "chan1"), (0, "chan2"), (1, "chan1"),
    ]  # fmt: skip
    assert found.segmentations[-1].extractor_kwargs == arguments(
        folder, plane_name="plane10", channel_name="chan2"
    )
    assert found.remarks == ["combined repeats the ROIs of all planes, and is left out."]
    for each in found.segmentations:
        cells = open_segmentation("Suite2p", each.extractor_kwargs)
        raw = np.asarray(cells.get_traces(name="raw"))
        assert np.array_equal(raw, traces(5, 8, 10 * each.plane + (3 if each.channel == "chan2" else 0)).T)
        assert (each.num_rois, each.num_samples) == (cells.get_num_rois(), cells.get_num_samples())
        assert (each.image_shape, each.rate) == (cells.get_frame_shape(), cells.get_sampling_frequency())


def test_the_only_plane_has_no_number(tmp_path):
    (only,) = recording(suite2p(tmp_path / "suite2p")).contents().segmentations
    assert (only.plane, only.channel) == (None, None)


def test_a_second_channel_of_a_later_plane_is_read(tmp_path):
    """By itself, roiextractors looks for channels in the first plane only."""
    folder = suite2p(tmp_path / "suite2p", second=True)
    suite2p_plane(folder / "plane1", seed=10, second=True)
    (folder / "plane0" / "F_chan2.npy").unlink()
    raw = raw_traces(folder, plane_name="plane1", channel_name="chan2")
    assert np.array_equal(raw, traces(5, 8, 13).T)


def test_all_planes_in_one_are_read_if_they_are_named(tmp_path):
    folder = suite2p(tmp_path / "suite2p")
    suite2p_plane(folder / "combined", seed=3)
    assert np.array_equal(raw_traces(folder, plane_name="combined"), traces(5, 8, 3).T)


@pytest.mark.parametrize("name", ["plane7", "../plane0", "/etc", "", 3])
def test_a_plane_that_is_not_there_is_said(tmp_path, name):
    folder = suite2p(tmp_path / "suite2p")
    with pytest.raises(SourceDataError, match=r"has no plane .* \(known: plane0\)"):
        open_segmentation("Suite2p", arguments(folder, plane_name=name))


def test_an_unknown_argument_is_said(tmp_path):
    with pytest.raises(ConfigurationError):
        open_segmentation("Suite2p", arguments(suite2p(tmp_path / "suite2p"), plane="plane0"))


def test_an_unknown_channel_is_said(tmp_path):
    with pytest.raises(SourceDataError, match="no channel 'chan3'"):
        open_segmentation("Suite2p", arguments(suite2p(tmp_path / "suite2p"), channel_name="chan3"))


def test_the_files_are_those_that_are_opened(tmp_path):
    folder = suite2p(tmp_path / "suite2p", planes=2, second=True)
    for channel in ("chan1", "chan2"):
        opened = set()

        def note(event, args, opened=opened):
            if event == "open" and str(args[0]).startswith(str(folder)) and str(args[0]).endswith(".npy"):
                opened.add(str(args[0]))

        sys.addaudithook(note)
        more = {"plane_name": "plane1", "channel_name": channel}
        open_segmentation("Suite2p", arguments(folder, **more))
        assert opened <= {str(file) for file in recording(folder, **more).files}
        assert all("plane1" in name for name in opened)
        opened.add(str(folder))  # the hook stays: let it note no more


def test_every_change_shows(tmp_path):
    folder = suite2p(tmp_path / "suite2p", second=True)
    files = recording(folder).files
    assert len(files) == 7
    for file in files:
        before = fingerprint([recording(folder)]), SourceState.of([recording(folder)]).files
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        os.utime(file, (LONG_AGO, LONG_AGO))
        assert fingerprint([recording(folder)]) != before[0]
        assert SourceState.of([recording(folder)]).files != before[1]


def test_a_linked_plane_belongs_to_the_recording(tmp_path):
    """Its folder is linked, so a change shows only if links are followed."""
    folder = tmp_path / "suite2p"
    suite2p_plane(folder / "results" / "first")
    (folder / "plane0").symlink_to("results/first")
    before = fingerprint([recording(folder)])
    np.save(folder / "plane0" / "F.npy", traces(5, 8, 99))
    assert fingerprint([recording(folder)]) != before


def test_links_out_of_the_recording_are_refused(tmp_path):
    suite2p_plane(tmp_path / "elsewhere")
    folder = suite2p(tmp_path / "suite2p", planes=2)
    shutil.rmtree(folder / "plane0")
    (folder / "plane0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceDataError, match="out of the recording's folder"):
        raw_traces(folder)
    (folder / "plane1" / "spks.npy").unlink()
    (folder / "plane1" / "spks.npy").symlink_to(tmp_path / "elsewhere" / "spks.npy")
    with pytest.raises(SourceDataError, match=r"plane1/spks.npy leads to"):
        raw_traces(folder, plane_name="plane1")


@pytest.mark.parametrize("name", ["ops.npy", "stat.npy", "F.npy"])
def test_nor_are_they_read_to_describe_it(tmp_path, name):
    folder = suite2p(tmp_path / "suite2p")
    (tmp_path / "secret").write_text("a secret")
    (folder / "plane0" / name).unlink()
    (folder / "plane0" / name).symlink_to(tmp_path / "secret")
    for look in (recording(folder).contents, recording(folder).metadata):
        with pytest.raises(SourceDataError, match=f"plane0/{name} leads to") as caught:
            look()
        assert "a secr" not in str(caught.value)


def test_a_pipe_is_refused_at_once(tmp_path):
    folder = suite2p(tmp_path / "suite2p")
    os.mkfifo(folder / "plane0" / "redcell.npy")
    with pytest.raises(SourceDataError, match=r"redcell.npy is no regular file but a named pipe"):
        raw_traces(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fs": "ten"}, "has no number as fs but 'ten'"),
        ({"fs": float("nan")}, "says that fs is nan"),
        ({"nframes": -3}, "says that nframes is -3.0"),
        ({"Ly": np.zeros(3)}, "has no number as Ly"),
        ({"Lx": 1e300}, "says that Lx is 1e\\+300"),
    ],
)
def test_options_that_make_no_sense_are_named(tmp_path, options, message):
    folder = suite2p(tmp_path / "suite2p", **options)
    with pytest.raises(SourceDataError, match=message):
        recording(folder).check()


def test_what_suite2p_was_told_becomes_metadata(tmp_path):
    folder = suite2p(tmp_path / "suite2p", date_proc="2026-11-22", nplanes=3)
    said = recording(folder).metadata()
    (plane,) = said.metadata["Ophys"]["ImagingPlanes"].values()
    assert plane["imaging_rate"] == RATE
    told = "suite2p: 0.14.4; Processed: 2026-11-22; Planes: 3; Time constant of the sensor: 1.25 s."
    assert plane["description"] == told
    assert said.sources["Ophys.ImagingPlanes.default_metadata_key.imaging_rate"] == "ops.npy: fs"
    named = {"Ophys": {"MicroscopySeries": {"default_metadata_key": {"name": "Movie", "unit": "n.a."}}}}
    validate_metadata(merge_metadata(said.metadata, named))


def test_a_folder_is_found_by_its_planes(tmp_path):
    folder = suite2p(tmp_path / "m1" / "suite2p")
    (tmp_path / "planes").mkdir()
    (tmp_path / "plane0").mkdir()
    cls = format_of("segmentation", "Suite2p")
    assert [found.extractor_kwargs for found in cls.find(folder)] == [arguments(folder)]
    assert not any(cls.find(other) for other in (tmp_path, tmp_path / "m1", folder / "plane0", tmp_path / "none"))
