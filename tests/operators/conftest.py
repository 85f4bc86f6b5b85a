"""The movie that the operators' tests convert."""

from __future__ import annotations

from pathlib import Path

import pytest
from movies import write_tiff


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    return write_tiff(tmp_path / "movie.tif")
