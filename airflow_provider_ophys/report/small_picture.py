"""The thumbnail of a report, small enough to be told with a task's result."""

from __future__ import annotations

import base64
import io
from pathlib import Path

COLUMNS, ROWS = 160, 120
COLOURS = 64
# Of the PNG; it is stored in Airflow's database.
MOST_BYTES = 16 * 1024


def small_picture(thumbnail: Path) -> str | None:
    """
    Return a PNG of at most 160 x 120 pixels as base64; ``None`` if there is no picture, or none so small.

    :param thumbnail: Path of the thumbnail of a report.
    """
    from PIL import Image

    try:
        with Image.open(thumbnail) as picture:
            picture.thumbnail((COLUMNS, ROWS))
            small = picture.convert("RGB").quantize(COLOURS)
    except OSError:
        return None
    content = io.BytesIO()
    small.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode() if content.tell() <= MOST_BYTES else None
