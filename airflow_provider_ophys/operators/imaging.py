"""Write a movie to an NWB file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.operators.conversion import RecordingConversionOperator

if TYPE_CHECKING:
    from airflow_provider_ophys.conversion.environment import Environment
    from airflow_provider_ophys.models.result import ImagingResult


class WriteImagingOperator(RecordingConversionOperator):
    """
    Writes a movie to an NWB file.

    It takes the options of :class:`~airflow_provider_ophys.operators.conversion.RecordingConversionOperator` and
    :class:`~airflow_provider_ophys.operators.conversion.ConversionOperator` too.

    Returns JSON with ``nwbfile_path``, ``backend``, ``size_bytes``, ``num_samples``, ``sample_shape`` (columns,
    rows[, planes]), ``dtype``, ``elapsed_seconds``, ``throughput_mb_per_s``, ``peak_memory_bytes``, ``reused`` and
    ``validation``; the same is on the event of the outlet asset.

    Several movies, of channels, planes or acquisitions, go into one file in one task: ``extractor_kwargs`` is then
    a list, ``extractor`` one name for all or a list; ``metadata_key``, ``photon_series_type``,
    ``photon_series_index`` and ``parent_container`` may be lists too. Movies that the metadata does not describe
    are named after their channels and planes, such as ``TwoPhotonSeriesGreenPlane0``.

    :param photon_series_type: ``"TwoPhotonSeries"``, ``"OnePhotonSeries"``, or ``"auto"``, which decides by the
        recording's format, the metadata and the extractor.
    :param photon_series_index: In the list form of metadata: which of the series of that type describes the movie,
        counted from 0.
    :param metadata_key: In the dict form of metadata: which entry of ``Ophys.MicroscopySeries`` describes the
        movie. It may be left out if there is at most one.
    :param parent_container: ``"acquisition"``, or ``"processing/ophys"`` for a motion-corrected movie.
    :param always_write_timestamps: Write a timestamp (seconds) for each sample, even if they are regular.
    :param iterator_type: ``"v2"`` reads the movie piece by piece; ``None`` reads all of it into memory first.
    :param iterator_options: For ``"v2"``: ``chunk_mb``, ``chunk_shape``, ``buffer_gb``, ``buffer_shape``,
        ``display_progress``, ``progress_bar_options``.
    """

    conversion_class = ImagingConversion
    template_fields: Sequence[str] = tuple(ImagingConversion.defaults())

    def __init__(
        self,
        *,
        photon_series_type: str | Sequence[str] = "auto",
        photon_series_index: int | str | Sequence[int] = 0,
        metadata_key: str | Sequence[str | None] | None = None,
        parent_container: str | Sequence[str] = "acquisition",
        always_write_timestamps: bool | str = False,
        iterator_type: str | None = "v2",
        iterator_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.photon_series_type = photon_series_type
        self.photon_series_index = photon_series_index
        self.metadata_key = metadata_key
        self.parent_container = parent_container
        self.always_write_timestamps = always_write_timestamps
        self.iterator_type = iterator_type
        self.iterator_options = iterator_options

    def _convert(self, conversion: ImagingConversion, environment: Environment) -> ImagingResult:
        from airflow_provider_ophys.conversion.run import convert_imaging

        return convert_imaging(conversion, environment)
