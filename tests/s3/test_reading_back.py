"""What was staged is opened from S3 by the very code that docs/staging.md shows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO, NWBFile
from pynwb.testing.mock.ophys import mock_TwoPhotonSeries
from s3_views import Place

from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from demo.s3_server import REGION, S3Server

PAGE = Path(__file__).parents[2] / "docs" / "staging.md"
MOVIE = np.arange(20 * 6 * 5, dtype="uint16").reshape(20, 6, 5)


def _documented(importing: str) -> str:
    section = PAGE.read_text().partition("## Reading it back")[2].partition("\n## ")[0]
    [block] = [block for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if importing in block]
    return block


@pytest.mark.parametrize(("io_class", "name"), [(NWBHDF5IO, "m1.nwb"), (NWBZarrIO, "m1.nwb.zarr")])
# hdmf-zarr's way of writing; the warning tells of other readers than ours.
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part in the Zarr format 3")
def test_staged_file_is_read_from_s3_as_documented(
    server: S3Server,
    place: Place,
    hook: OphysS3Hook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    io_class: Any,
    name: str,
) -> None:
    nwbfile = NWBFile(session_description="x", identifier="1", session_start_time=datetime.now(tz=UTC))
    mock_TwoPhotonSeries(name="TwoPhotonSeries", data=MOVIE, rate=30.0, nwbfile=nwbfile)
    with io_class(str(tmp_path / name), mode="w") as io:
        io.write(nwbfile)
    hook.publish(tmp_path / name, f"{place.uri}sessions/")
    for variable, value in {
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": server.read_only_access_key,
        "AWS_SECRET_ACCESS_KEY": server.read_only_secret_key,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(variable, value)
    code = _documented(io_class.__name__).replace("our-archive", place.bucket)
    found: dict[str, Any] = {}
    exec(code.replace("sessions/", f"{place.prefix}sessions/"), found)
    assert np.array_equal(found["frames"], MOVIE[:10])
    if "client" in found:
        found["client"].close()
