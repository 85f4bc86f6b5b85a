"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from airflow.serialization.serialized_objects import DagSerialization
from pynwb import NWBHDF5IO

from airflow_provider_ophys.get_provider_info import get_provider_info
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.models.result import ImagingResult
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def block_with(language, text):
    (found,) = [block for block in blocks(language) if text in block]
    return found


def test_the_first_dag_is_one_that_airflow_takes():
    scope = {"__name__": "readme"}
    exec(block_with("python", "def one_session").replace("\none_session()\n", "\nmade = one_session()\n"), scope)
    back = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(scope["made"]))
    assert back.task_dict.keys() == {"movie", "cells", "stage"}
    assert back.get_task("stage").upstream_task_ids == {"cells"}


def test_the_writers_work_from_python(tmp_path, monkeypatch):
    import numpy as np
    import tifffile

    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("movie.tif", np.zeros((5, 6, 7), dtype="uint16"), photometric="minisblack")
    exec(block_with("python", "TiffImagingExtractor"), {"__name__": "readme"})
    with NWBHDF5IO("movie.nwb", "r") as io:
        assert io.read().acquisition["TwoPhotonSeries"].data.shape == (5, 7, 6)


def test_the_metadata_is_valid_and_the_session_has_its_parts():
    metadata = validate_metadata(yaml.safe_load(block_with("yaml", "NWBFile:")))
    assert set(metadata.Ophys.MicroscopySeries) == {"movie"}
    session = yaml.safe_load(block_with("yaml", "# session.yaml"))
    assert set(session) == {"imaging", "segmentation"}


def test_the_result_has_the_fields_that_it_shows():
    (shown,) = blocks("json")
    assert set(json.loads(shown)) == set(ImagingResult.model_fields)


@pytest.mark.parametrize("operator", [WriteImagingOperator, WriteSegmentationOperator])
def test_every_option_is_mentioned(operator):
    for option in operator.template_fields:
        assert f"`{option}`" in README


def test_every_setting_is_mentioned_with_its_default():
    for option, described in get_provider_info()["config"]["ophys"]["options"].items():
        assert f"| `{option}` | `{described['default']}` |" in README


def test_every_command_is_a_target_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {line.split()[1] for block in blocks("bash") for line in block.splitlines() if line.startswith("make")}
    named |= set(re.findall(r"`make ([a-z]+)", README))
    assert named <= targets
    assert {"demo", "test", "airflow", "check", "fix", "constraints", "bench"} <= named
