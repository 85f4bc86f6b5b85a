"""What tables of ROIs are called where nobody names them."""

from __future__ import annotations

import re

from airflow_provider_ophys.models.metadata import DEFAULT_METADATA_KEY

TABLE_NAME = "PlaneSegmentation"
BACKGROUND_TABLE_NAME = "BackgroundPlaneSegmentation"

LONGEST_SUFFIX = 40

# Keys that say nothing of the segmentation, so no name needs them.
PLAIN_KEYS = (DEFAULT_METADATA_KEY, TABLE_NAME)


def name_suffix(key: str) -> str:
    """
    Return what names end with that are not given, of one of several segmentations.

    :param key: Of the segmentation in the metadata; it may hold what a name may not.
    """
    return "" if key in PLAIN_KEYS else "_" + re.sub(r"[^\w .+-]", "_", key)[:LONGEST_SUFFIX]
