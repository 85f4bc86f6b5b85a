"""Whatever a write operator is given, it succeeds or fails with an error of ours, and leaves nothing half-done."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from movies import METADATA, write_tiff

from airflow_provider_ophys.compat import AirflowFailException
from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from demo.recording import simulate_acquisition

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SHAPE = st.lists(st.integers(-1, 40), max_size=5)
STORAGE = st.fixed_dictionaries(
    {},
    optional={
        "chunk_shape": SHAPE | ANYTHING,
        "shard_shape": SHAPE | ANYTHING,
        "compression_method": st.sampled_from(["fast", "small", "none", "gzip", "lzf", "zstd"]) | ANYTHING,
        "compression_options": st.dictionaries(st.sampled_from(["level", "x"]), st.integers(-1, 30)) | ANYTHING,
    },
)
ITERATOR = st.fixed_dictionaries(
    {},
    optional={
        "chunk_mb": st.floats() | ANYTHING,
        "chunk_shape": SHAPE | ANYTHING,
        "buffer_gb": st.floats() | ANYTHING,
        "buffer_shape": SHAPE | ANYTHING,
        "display_progress": ANYTHING,
    },
)
SHARED = {
    "backend": st.sampled_from(["hdf5", "zarr"]) | ANYTHING,
    "compression": st.sampled_from(["fast", "small", "none"]) | ANYTHING,
    "if_exists": st.sampled_from(["reuse", "fail", "overwrite", "append"]) | ANYTHING,
    "memory_limit": st.sampled_from(["1MiB", "64MiB", "0", "-1"]) | st.integers(-1, 2**40) | ANYTHING,
    "threads": st.integers(-1, 8) | ANYTHING,
    "validate": st.booleans() | ANYTHING,
    "iterator_options": ITERATOR | ANYTHING,
}
DATA = "acquisition/TwoPhotonSeries/data"
IMAGING = SHARED | {
    "extractor": st.sampled_from(["Tiff", "MultiTIFFMultiPage", "ScanImage", "Suite2p", "os.system"]) | ANYTHING,
    "metadata": st.builds(
        lambda more: METADATA | more, st.dictionaries(st.sampled_from(["Ophys", "Subject"]), ANYTHING)
    )
    | ANYTHING,
    "backend_configuration": st.dictionaries(st.just(DATA) | st.text(max_size=8), STORAGE, max_size=2) | ANYTHING,
    "photon_series_type": st.sampled_from(["TwoPhotonSeries", "OnePhotonSeries"]) | ANYTHING,
    "photon_series_index": st.integers(-1, 2) | ANYTHING,
    "metadata_key": ANYTHING,
    "parent_container": st.sampled_from(["acquisition", "processing/ophys"]) | ANYTHING,
    "always_write_timestamps": st.booleans() | ANYTHING,
}
SEGMENTATION = SHARED | {
    "mask_type": st.sampled_from(["image", "pixel", "voxel"]) | ANYTHING,
    "metadata_key": ANYTHING,
    "include_roi_centroids": st.booleans() | ANYTHING,
    "include_roi_acceptance": st.booleans() | ANYTHING,
}

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    return write_tiff(tmp_path_factory.mktemp("movie") / "movie.tif")


@pytest.fixture(scope="module")
def suite2p(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session") / "m1"
    return simulate_acquisition(folder, num_samples=20, num_rois=3) / "suite2p"


def some_of(strategies):
    """Arguments of which most are left out: one wrong one hides what the others would do."""
    return st.lists(st.sampled_from(sorted(strategies)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: strategies[name] for name in names})
    )


def run(operator, folder, known, arguments):
    known = known | {"nwbfile_path": str(folder / "a.nwb"), "metadata": METADATA}
    result = execute(operator(task_id="write", **known | arguments))
    if result is None:
        assert not list(folder.iterdir())
    else:
        assert result["validation"] in ("valid", "not validated")


def execute(operator):
    """Return the result, or nothing for an error of ours; what else is raised fails the test."""
    try:
        return operator.execute({"outlet_events": {}})
    except (OphysError, AirflowFailException):
        return None


@FUZZ
@given(arguments=some_of(IMAGING))
def test_a_movie(arguments, tiff, tmp_path_factory):
    known = {"extractor": "Tiff", "extractor_kwargs": {"file_path": str(tiff), "sampling_frequency": 30.0}}
    run(WriteImagingOperator, tmp_path_factory.mktemp("out"), known, arguments)


@FUZZ
@given(arguments=some_of(SEGMENTATION))
def test_a_segmentation(arguments, suite2p, tmp_path_factory):
    known = {"extractor": "Suite2p", "extractor_kwargs": {"folder_path": str(suite2p)}}
    run(WriteSegmentationOperator, tmp_path_factory.mktemp("out"), known, arguments)


@FUZZ
@given(
    extractor_kwargs=st.dictionaries(st.sampled_from(["file_path", "sampling_frequency", "x"]), ANYTHING)
    | ANYTHING,
    nwbfile_path=ANYTHING,
)
def test_any_recording_and_any_path(extractor_kwargs, nwbfile_path, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("out")
    monkeypatch.chdir(folder)
    operator = WriteImagingOperator(
        task_id="write",
        extractor="Tiff",
        extractor_kwargs=extractor_kwargs,
        nwbfile_path=nwbfile_path,
        metadata=METADATA,
    )
    assert execute(operator) is None
    assert not list(folder.iterdir())
