"""Only an NWB file or store is ever replaced, told by its content, and never what a conversion reads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from movies import METADATA, imaging, write_tiff
from roiextractors import NwbImagingExtractor, TiffImagingExtractor
from roiextractors.testing import generate_dummy_imaging_extractor

from airflow_provider_ophys.conversion.environment import Defaults, Environment
from airflow_provider_ophys.conversion.many_workers import fill_share, plan_imaging, publish_imaging
from airflow_provider_ophys.conversion.publishing import publishing
from airflow_provider_ophys.conversion.replacing import check_replaceable, kept_for
from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import OphysError, OutputExistsError, OutputFolderError
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.plan import ParallelImagingConversion
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile
from airflow_provider_ophys.nwb.existing import find_foreign

SECOND = METADATA | {"Ophys": {"MicroscopySeries": {"second": {"name": "Second", "unit": "n.a."}}}}
BACKENDS = ["hdf5", "zarr"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:The file path provided"),
    pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A movie, an NWB file, an NWB store of Zarr format 3 and one of format 2, and what only looks like them."""
    folder = tmp_path_factory.mktemp("made")
    movie = generate_dummy_imaging_extractor(num_rows=3, num_columns=4, num_samples=5)
    pixels = np.arange(60, dtype="uint16").reshape(5, 3, 4)
    write_tiff(folder / "movie.tif", pixels)
    write_imaging_to_nwbfile(movie, folder / "made.nwb", metadata=METADATA)
    (folder / "made.nwb").rename(folder / "nwb")
    write_imaging_to_nwbfile(movie, folder / "store", metadata=METADATA, backend="zarr")
    stores = (("store2", 2, {"nwb_version": "2.9.0"}), ("other_store", 3, {"lab": "ours"}))
    for name, version, attributes in stores:
        root = zarr.open_group(folder / name, mode="w", zarr_format=version, attributes=attributes)
        root.create_group("acquisition").create_array("data", data=np.arange(12).reshape(3, 4), chunks=(2, 2))
    with h5py.File(folder / "other_hdf5", "w") as file:
        file["data"] = [1, 2, 3]
    (folder / "text").write_text("years of work")
    (folder / "folder").mkdir()
    (folder / "folder" / "thesis.txt").write_text("years of work")
    return folder


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)


def put(folder: Path, stray: str) -> None:
    """Put a file, or a folder if the name ends with a slash, into a folder."""
    (folder / stray).parent.mkdir(parents=True, exist_ok=True)
    (folder / stray).mkdir() if stray.endswith("/") else (folder / stray).write_text("ours")


def contents(folder: Path, output: Path | None = None) -> dict[str, str]:
    """Return what is in a folder, but for an output: the target of each link, the digest of each file."""
    found = {}
    for entry in sorted(folder.rglob("*")):
        if output is not None and (entry == output or output in entry.parents):
            continue
        if entry.is_symlink():
            found[str(entry)] = f"link to {entry.readlink()}"
        else:
            found[str(entry)] = hashlib.sha256(entry.read_bytes()).hexdigest() if entry.is_file() else "folder"
    return found


def conversion(movie: Path, path: Path, **options) -> ImagingConversion:
    return ImagingConversion(**imaging(movie, path, **options))


def write(mode: str, movie: Path, path: Path, backend: str) -> None:
    """Convert in one of the ways that may replace something."""
    if mode in ("overwrite=True", "append_on_disk_nwbfile=True"):
        imaging = TiffImagingExtractor(movie, sampling_frequency=30.0)
        chosen = {"backend": backend} if mode == "overwrite=True" else {}
        write_imaging_to_nwbfile(imaging, path, metadata=SECOND, **{mode.partition("=")[0]: True}, **chosen)
    elif mode == "group":
        planned = ParallelImagingConversion(
            **conversion(movie, path, metadata=SECOND, backend="zarr", if_exists="overwrite").model_dump(
                by_alias=True, exclude_unset=True
            )
        )
        plan = plan_imaging(planned)
        publish_imaging(plan, [fill_share(plan, share) for share in plan.shares])
    else:
        backend = None if mode == "append" else backend
        convert_imaging(conversion(movie, path, metadata=SECOND, if_exists=mode, backend=backend))


MODES = ["reuse", "fail", "overwrite", "append", "group", "overwrite=True", "append_on_disk_nwbfile=True"]
KINDS = ["text", "folder", "nwb", "store", "store2", "other_store", "other_hdf5", "movie.tif"]
PLACES = ["a", "b.nwb", "c.zarr", "folder/d", "folder/e.nwb", "deep/er/f"]
TREES = st.dictionaries(st.sampled_from(PLACES), st.sampled_from(KINDS), max_size=4)
STRAYS = st.sampled_from([None, "notes.txt", "acquisition/notes.txt", ".git/HEAD", "empty/"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tree=TREES,
    stray=STRAYS,
    link=st.none() | st.sampled_from(PLACES),
    output=st.sampled_from([*PLACES, "", "folder", "deep", "session", "session/movie.tif", "link"]),
    mode=st.sampled_from(MODES),
    backend=st.sampled_from(BACKENDS),
)
def test_nothing_but_the_output_changes(made, tmp_path_factory, tree, stray, link, output, mode, backend):
    folder = tmp_path_factory.mktemp("tree")
    (folder / "session").mkdir()
    copy(made / "movie.tif", folder / "session" / "movie.tif")
    for place, kind in tree.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        copy(made / kind, folder / place)
        if stray is not None and (folder / place).is_dir():
            put(folder / place, stray)
    if link is not None:
        (folder / "link").symlink_to(folder / link)
    path = folder / output
    real = path.resolve()
    kind = tree.get(str(real.relative_to(folder)))
    mine = kind == "nwb" or (kind in ("store", "store2") and stray is None)
    before, all_before = contents(folder, real), contents(folder)
    try:
        write(mode, folder / "session" / "movie.tif", path, backend)
    except OphysError:
        assert contents(folder) == all_before
    else:
        assert mine or not any(name == str(real) for name in all_before), "it replaced what is not NWB"
        assert contents(folder, real) == before
        assert find_foreign(path) is None
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["overwrite", "append", "group", "overwrite=True", "append_on_disk_nwbfile=True"])
@pytest.mark.parametrize("kind", ["nwb", "store"])
def test_a_file_or_store_is_replaced(made, tmp_path, kind, mode):
    if mode == "group" and kind == "nwb":
        copy(made / "nwb", tmp_path / "a")
    else:
        copy(made / kind, tmp_path / "a")
    before = contents(tmp_path)
    write(mode, made / "movie.tif", tmp_path / "a", "zarr" if kind == "store" else "hdf5")
    assert contents(tmp_path) != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("kind", "stray", "reason"),
    [
        ("text", None, "a file that is not HDF5"),
        ("folder", None, "a folder that is no Zarr store"),
        ("other_hdf5", None, "without NWB's nwb_version"),
        ("other_store", None, "without NWB's nwb_version"),
        ("store", "notes.txt", "holds notes.txt"),
        (
            "store",
            "acquisition/TwoPhotonSeries/data/a.md",
            "holds acquisition/TwoPhotonSeries/data/a.md",
        ),
        ("store", "acquisition/lab/a.txt", "holds acquisition/lab"),
        ("store2", "acquisition/data/c.txt", "holds acquisition/data/c.txt"),
        ("store", ".git/HEAD", "holds .git"),
        ("nwb", None, None),
        ("store", None, None),
        ("store2", None, None),
        ("store", ".DS_Store", None),
        ("store", "acquisition/TwoPhotonSeries/data/c/0/0/.0.0123abcd.part", None),
        ("store", "acquisition/zarr.0123456789abcdef0123456789abcdef.partial", None),
    ],
)
def test_what_may_be_replaced_is_told_by_its_content(made, tmp_path, kind, stray, reason):
    copy(made / kind, tmp_path / "a.nwb")
    if stray is not None:
        put(tmp_path / "a.nwb", stray)
    found = find_foreign(tmp_path / "a.nwb")
    assert found is None if reason is None else reason in found


def test_a_damaged_file_and_what_is_no_file_are_not_replaced(made, tmp_path):
    (tmp_path / "cut.nwb").write_bytes((made / "nwb").read_bytes()[:1000])
    assert "cannot be read as an NWB file" in find_foreign(tmp_path / "cut.nwb")
    os.mkfifo(tmp_path / "pipe.nwb")
    assert "neither a file nor a folder" in find_foreign(tmp_path / "pipe.nwb")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "zarr.json").write_text(json.dumps(["nwb_version"]))
    assert "cannot be read as an NWB file" in find_foreign(tmp_path / "store")


def test_what_is_read_is_not_replaced(made, tmp_path):
    session = tmp_path / "session"
    copy(made / "store", session)
    copy(made / "movie.tif", session / "movie.tif")
    movie = session / "movie.tif"
    for path, words in ((movie, "is"), (session, "holds")):
        with pytest.raises(OutputExistsError, match=f"{words} .*movie.tif, which this conversion reads"):
            convert_imaging(conversion(movie, path, if_exists="overwrite"))
    (tmp_path / "linked").symlink_to(session)
    copy(made / "nwb", session / "old.nwb")
    reading_the_folder = kept_for({"folder_path": str(tmp_path / "linked")}, METADATA)
    with pytest.raises(OutputExistsError, match="lies in .*linked, which this conversion reads"):
        check_replaceable(session / "old.nwb", reading_the_folder)
    (tmp_path / "metadata.yaml").write_text(json.dumps(METADATA))
    with pytest.raises(OutputExistsError, match=r"is .*metadata.yaml, which this conversion reads"):
        convert_imaging(
            conversion(
                made / "movie.tif",
                tmp_path / "metadata.yaml",
                metadata=[str(tmp_path / "metadata.yaml")],
                if_exists="overwrite",
            )
        )


def test_an_allowed_folder_itself_is_not_replaced(made, tmp_path):
    copy(made / "store", tmp_path / "root")
    allowed = Environment(Defaults(allowed_roots=(tmp_path / "root", made)))
    with pytest.raises(OutputExistsError, match="is or holds .*root, a folder of"):
        convert_imaging(conversion(made / "movie.tif", tmp_path / "root", if_exists="overwrite"), allowed)


def test_a_plain_folder_is_not_proposed_to_be_overwritten(made, tmp_path):
    with pytest.raises(OutputExistsError) as caught:
        convert_imaging(conversion(made / "movie.tif", tmp_path))
    assert "overwrite" not in str(caught.value)
    assert "Correct nwbfile_path" in str(caught.value)


@pytest.mark.parametrize("kind", ["nwb", "store"])
def test_what_appears_or_changes_meanwhile_stays(made, tmp_path, kind):
    path = tmp_path / "a.nwb"
    for replaced in (False, True):
        if replaced:
            copy(made / "nwb", path)
        with pytest.raises(OutputExistsError, match="appeared or changed"), publishing(path, replace=True) as part:
            copy(made / kind, part)
            path.unlink(missing_ok=True)
            copy(made / "store", path)
        assert find_foreign(path) is None
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]
        shutil.rmtree(path)
    copy(made / "nwb", path)
    with pytest.raises(OutputExistsError, match="not HDF5"), publishing(path, replace=True) as part:
        copy(made / kind, part)
        path.write_text("theirs")
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("kind", ["nwb", "store"])
@pytest.mark.parametrize("mode", ["overwrite", "append", "group"])
def test_a_link_stays_and_what_it_leads_to_is_replaced(made, tmp_path, kind, mode):
    (tmp_path / "disk").mkdir()
    (tmp_path / "lab").mkdir()
    real, link = tmp_path / "disk" / "m1.nwb", tmp_path / "lab" / "current.nwb"
    copy(made / ("store" if mode == "group" else kind), real)
    link.symlink_to(real)
    before = contents(tmp_path)
    write(mode, made / "movie.tif", link, "zarr" if kind == "store" else "hdf5")
    assert link.is_symlink()
    assert contents(tmp_path) != before
    assert sorted(entry.name for entry in (tmp_path / "disk").iterdir()) == ["m1.nwb"]
    assert sorted(entry.name for entry in (tmp_path / "lab").iterdir()) == ["current.nwb"]


def test_a_link_to_nothing_is_refused_before_any_work(made, tmp_path):
    (tmp_path / "current.nwb").symlink_to(tmp_path / "gone.nwb")
    for mode in ("overwrite", "append", "overwrite=True"):
        with pytest.raises(OutputFolderError, match=r"is a link to .*gone.nwb, which is not there"):
            write(mode, made / "movie.tif", tmp_path / "current.nwb", "hdf5")


def test_a_recording_that_an_extractor_has_open_is_not_replaced(made, tmp_path):
    copy(made / "nwb", tmp_path / "a.nwb")
    imaging = NwbImagingExtractor(tmp_path / "a.nwb")
    before = contents(tmp_path)
    for recording in (imaging, imaging.slice_samples(0, 3)):
        with pytest.raises(OutputExistsError, match="is .*a.nwb, which this conversion reads"):
            write_imaging_to_nwbfile(recording, tmp_path / "a.nwb", metadata=METADATA, overwrite=True)
    assert contents(tmp_path) == before
