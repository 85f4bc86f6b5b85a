"""The movie that the operators' tests convert, and which of them are for this Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from movies import write_tiff

from airflow_provider_ophys.compat import HAS_RETRY_POLICIES

collect_ignore = ["test_retries_without_policies.py" if HAS_RETRY_POLICIES else "test_retries.py"]


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    return write_tiff(tmp_path / "movie.tif")
