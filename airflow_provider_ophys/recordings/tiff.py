"""Recordings that are TIFF files, of any maker."""

from __future__ import annotations

from airflow_provider_ophys.recordings.recording import Recording
from airflow_provider_ophys.recordings.tiff_pages import check_tiff, is_tiff_name


class TiffRecording(Recording):
    """TIFF files, or a folder with TIFF files in it."""

    def check(self) -> None:
        """
        Check that every TIFF file is whole.

        :raises SourceDataError: If one was cut off; names the frame.
        """
        named = set(self.paths.values())
        for file in self.files:
            if file in named or is_tiff_name(file.name):
                check_tiff(file, by_page=not self.extractor.lower().startswith("tiff"))
