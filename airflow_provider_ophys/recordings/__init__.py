"""
Whether a recording is whole, looked at before an extractor reads it.

Extractors trust their files: a TIFF that was cut off becomes a shorter movie, and a suite2p folder whose arrays do
not belong together becomes a file that looks right. What is found here is named by file and frame or field.
"""

from __future__ import annotations

from airflow_provider_ophys.recordings.pickles import check_pickle
from airflow_provider_ophys.recordings.suite2p import check_suite2p
from airflow_provider_ophys.recordings.tiff import check_tiff, is_tiff_name

__all__ = ["check_pickle", "check_suite2p", "check_tiff", "is_tiff_name"]
