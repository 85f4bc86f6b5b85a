"""
Whatever stands in the files that describe a session, and in its folder's name: only errors of ours, within bounds.

A few examples here; ``make fuzz`` tries thousands.
"""

from __future__ import annotations

import shutil

import hdmf_zarr  # noqa: F401 - the process that is watched has all there that takes long to import
import pytest
import roiextractors  # noqa: F401
import yaml
from damaged_files import (
    EXAMPLES,
    LONGEST_MESSAGE,
    MOST_BYTES,
    MOST_SECONDS,
    damaged,
    fuzzing,
    replace,
    restore,
    state_of,
)
from failing_calls import why_not
from hypothesis import given
from hypothesis import strategies as st
from session_recordings import recording
from watched_processes import run_watched

from airflow_provider_ophys.conversion.environment import Defaults, Environment
from airflow_provider_ophys.conversion.session import convert_session
from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.sessions import describe_session
from airflow_provider_ophys.writing.sharing import share_folder

SOUND = {
    "lab/lab.yaml": "NWBFile: {lab: Ours, keywords: [a]}\nDevices: {default_metadata_key: {manufacturer: Made}}\n"
    "Ophys: {ImagingPlanes: {default_metadata_key: {indicator: GCaMP6f, location: V1, grid_spacing: [1.0, 2]}}}\n",
    "lab/session/metadata.yaml": "NWBFile: {session_start_time: 2026-11-22T09:30:00+01:00, session_id: '7'}\n"
    "Subject: {subject_id: m1, species: Mus musculus, sex: F, date_of_birth: 2026-08-01, weight: 0.02 kg}\n",
    "lab/session/session.yaml": "imaging:\n- extractor: ScanImage\n  extractor_kwargs: {file_path: m1_00001.tif}\n"
    "  photon_series_type: TwoPhotonSeries\n",
    "lab/subjects.csv": "subject_id,species,sex,age,genotype\nm1,Mus musculus,F,P90D,wt\nm2,Mus musculus,M,,\n",
}
HOSTILE = [
    "NWBFile: &a [*a]",
    "a: &a [x, x]\nb: &b [*a, *a]\nNWBFile: [*b, *b]\n",
    "NWBFile: !!python/object/apply:os.system [id]",
    "NWBFile: {session_start_time: 0001-01-01T00:00:00+14:00}",
    "NWBFile: {session_start_time: 9999-12-31T23:59:59-14:00}",
    "NWBFile: {session_start_time: 2026-11-22, identifier: '\\0'}",
    "Subject: {subject_id: '../../m1', date_of_birth: 1e999, age: P90D/}",
    "Ophys: {MicroscopySeries: {default_metadata_key: {timestamps: /etc/passwd}}}",
    "Ophys: {MicroscopySeries: {default_metadata_key: {timestamps: ../../../etc/passwd, rate: .nan}}}",
    "Ophys: {MicroscopySeries: {default_metadata_key: {name: a/b, unit: ''}}}",
    "Ophys: {ImagingPlanes: {default_metadata_key: {name: '..', excitation_lambda: -.inf, imaging_rate: 1e400}}}",
    "Devices: {a: {name: '" + "x" * 70_000 + "'}}",
    "imaging: {extractor: ScanImage, extractor_kwargs: {file_path: /etc/passwd}}",
    "imaging: {extractor: ScanImage, extractor_kwargs: {file_path: '../a\\0b'}}",
    "imaging: {extractor: Tiff, extractor_kwargs: {file_path: m1_00001.tif, sampling_frequency: .inf}}",
    "imaging: {extractor: Numpy, extractor_kwargs: {timeseries: m1_00001.tif, sampling_frequency: 1}}",
    "imaging: {extractor: os.system, extractor_kwargs: {command: id}}",
    "imaging: [{extractor: ScanImage, extractor_kwargs: [{file_path: m1_00001.tif}, {file_path: m1_00001.tif}]}]",
    "segmentation: {extractor: Suite2p, extractor_kwargs: {folder_path: .}}",
    "subject_id,subject_id,age\nm1,m1,P1D\n",
    'subject_id,age\nm1,"' + "x" * 200_000,
    "subject_id\0,age\nm1,P1D\n",
    "{" * 2000,
    "- " * 2000,
    "\ufeff? a\n: b",
]
WORDS = [
    "NWBFile", "Subject", "Devices", "DeviceModels", "Ophys", "ImagingPlanes", "MicroscopySeries", "imaging",
    "segmentation", "extractor", "extractor_kwargs", "file_path", "default_metadata_key", "name", "description",
    "unit", "rate", "timestamps", "starting_time", "location", "indicator", "optical_channel", "grid_spacing",
    "session_start_time", "experimenter", "keywords", "subject_id", "date_of_birth", "age", "weight", "strain",
]  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.datetimes()
    | st.dates()
    | st.binary(max_size=6)
    | st.sampled_from(["m1_00001.tif", "/etc/passwd", "..", "ScanImage", "2026-11-22T09:30:00"])
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=20,
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..")
) | st.sampled_from(
    ["m1_20261122_a", "m1_20269999_a", "__", "-", " ", "[red]", "{subject_id}", "m1.nwb", "_" * 200]
)
PATTERNS = [
    None,
    "{subject_id}_{session_start_time:%Y%m%d}_{session_id}",
    r"(?P<subject_id>\w+)_.*",
    "{subject_id}",
]

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def describe_and_convert(root, folder, pattern, output):
    """Return the messages of what is refused."""
    try:
        session = describe_session(
            folder,
            root=root / "lab",
            subject_table=root / "lab" / "subjects.csv",
            folder_name=pattern,
            allowed_roots=[root],
        )
        session.model_dump_json()
        convert_session(session.conversion(output / "a.nwb"), Environment(Defaults(allowed_roots=(root,))))
    except OphysError as error:
        return [str(error)]
    return session.remarks


def put(data, file, sound):
    """Write a file, or leave it out, or put something else there."""
    what = data.draw(st.sampled_from(["nothing", "sound", "damaged", "hostile", "any", "other"]), label=file.name)
    content = sound.encode()
    if what == "damaged":
        content = damaged(data.draw, content)
    elif what == "hostile":
        content = data.draw(st.sampled_from(HOSTILE), label="text").encode()
    elif what == "any":
        content = yaml.safe_dump(data.draw(DOCUMENTS, label="document"), allow_unicode=True).encode()
    if what != "nothing":
        file.write_bytes(content)
    if what == "other":
        replace(data.draw, file, [text.encode() for text in SOUND.values()])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    (root / "lab").mkdir()
    recording("ScanImage, one file", root / "lab" / "session")
    return root


@fuzzing(max(40, EXAMPLES // 4))
@given(data=st.data())
def test_a_session_is_described_and_converted_or_refused(root, data):
    found, output = root / "lab" / "session", root / "out"
    folder = found.with_name(data.draw(NAMES, label="name"))
    movie = {file: file.read_bytes() for file in found.iterdir()}
    output.mkdir()
    try:
        for name, sound in SOUND.items():
            put(data, root / name, sound)
        found.rename(folder)
        before, pattern = state_of(root / "lab"), data.draw(st.sampled_from(PATTERNS), label="pattern")
        watched = run_watched(
            lambda: describe_and_convert(root, folder, pattern, output),
            reads=[root],
            changes=[output],
            passed_over=[share_folder()],
        )
        assert watched.outside == []
        assert state_of(root / "lab") == before
        assert watched.cpu_seconds < MOST_SECONDS
        assert watched.grown_bytes < MOST_BYTES
        assert all(len(message) < LONGEST_MESSAGE for message in watched.returned)
    finally:
        shutil.rmtree(root)
        found.mkdir(parents=True)
        restore(movie)
