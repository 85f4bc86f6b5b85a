"""
What is known of a recording before an extractor reads it, format by format.

Extractors trust their files: a TIFF that was cut off becomes a shorter movie, and a suite2p folder whose arrays do
not belong together becomes a file that looks right. One module per maker's format knows all of a recording's
files, whether they are whole, what is in them and what their headers say; each is imported on first use. Plain
Python: neither pynwb nor roiextractors.
"""

from airflow_provider_ophys.recordings.formats import format_of, recording_of
from airflow_provider_ophys.recordings.recording import Recording

__all__ = ["Recording", "format_of", "recording_of"]
