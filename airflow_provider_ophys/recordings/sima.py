"""SIMA's datasets: folders ``.sima`` of pickles, which SIMA itself reads, and runs."""

from __future__ import annotations

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.recording import Recording


class SimaRecording(Recording):
    """A folder ``.sima``. Its reader rewrites the pickles in place, so it needs a copy of the folder."""

    def check(self) -> None:
        """
        Refuse it, unless the platform lets recordings run what they want.

        SIMA's library loads the files by itself: it cannot be given what was read as data.

        :raises SourceDataError: If pickles are not allowed.
        """
        files = self.files
        if not self.allow_pickle:
            raise SourceDataError(
                f"{files[0].parent if files else self.describe()} is not read: SIMA's files are pickles, which "
                "may run anything. If all who can write there are trusted, [ophys] allow_pickle = True lets them."
            )
