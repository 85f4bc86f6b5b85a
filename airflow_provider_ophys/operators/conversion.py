"""What the write operators share: their options and what becomes of the result."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import BaseOperatorLink

from airflow_provider_ophys.assets import announce_output
from airflow_provider_ophys.exceptions import ConfigurationError, PreflightError
from airflow_provider_ophys.models.conversion import Conversion, ConversionOptions, RecordingConversion
from airflow_provider_ophys.models.metadata import spell_nan
from airflow_provider_ophys.models.output_path import spell_paths
from airflow_provider_ophys.operators.lineage import NWBFileLink
from airflow_provider_ophys.operators.report_maker import maker_in, push_picture, record_maker
from airflow_provider_ophys.operators.stopping import StoppableOperator
from airflow_provider_ophys.retries import RETRY_POLICY, decides_on_retries, policy_argument
from airflow_provider_ophys.session_notes import leaves_notes
from airflow_provider_ophys.settings import platform_defaults

if TYPE_CHECKING:
    from threading import Event

    from airflow.sdk import Context, RetryPolicy

    from airflow_provider_ophys.conversion.environment import Environment
    from airflow_provider_ophys.models.result import ConversionResult, ImagingResult, SegmentationResult


class NWBOutputOperator(StoppableOperator):
    """
    Converts, tells what it wrote, and ends soon after Airflow has asked it to.

    :param retry_policy: Default: :class:`airflow_provider_ophys.retries.OphysRetryPolicy`, with which a task
        fails at once if a retry cannot help.
    """

    ui_color = "#d5e8d4"

    def __init__(self, *, retry_policy: RetryPolicy | None = RETRY_POLICY, **kwargs: Any) -> None:
        super().__init__(**policy_argument(retry_policy), **kwargs)
        # Whose session it is, as the file says.
        self.written_subject: dict[str, str] = {}
        self._converted: tuple[Conversion, dict[str, Any]] | None = None

    def _finish(
        self, context: Context, conversion: Conversion, converted: ConversionResult, environment: Environment
    ) -> dict[str, Any]:
        """Tell the log, the assets and OpenLineage what was written; return it as plain JSON."""
        from airflow_provider_ophys.conversion.subject import subject_in

        result = self._with_report(conversion, converted, environment)
        if result["report"]:
            record_maker(maker_in(context), result["report"])
            push_picture(self, context, result["report"]["thumbnail"])
        self.written_subject = subject_in(Path(result["nwbfile_path"]))
        self._log_result(result)
        announce_output(self, context, Path(result["nwbfile_path"]).absolute().as_uri(), result)
        self._converted = (conversion, result)
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Tell OpenLineage, if it is installed, what was read and written."""
        if self._converted is None:
            return None
        from airflow_provider_ophys.conversion.run import recordings_of
        from airflow_provider_ophys.operators.lineage import conversion_lineage

        conversion, result = self._converted
        files = [str(file) for recording in recordings_of(conversion) for file in recording.files]
        return conversion_lineage(files, result)

    def _with_report(
        self, conversion: Conversion, converted: ConversionResult, environment: Environment
    ) -> dict[str, Any]:
        """Make the report of what was converted, if it is wanted, and return the result as plain JSON."""
        if not conversion.report:
            return converted.to_json()
        from airflow_provider_ophys.report.conversion import with_report

        return with_report(converted, environment.defaults.wish(conversion), environment.stop).to_json()

    def _log_result(self, result: dict[str, Any]) -> None:
        if result["reused"]:
            self.log.info("Reused %s, which this very conversion wrote before.", result["nwbfile_path"])
            return
        self.log.info(
            "Wrote %s (%s, %.1f MB, %s) in %.1f s: %.0f MB/s, peak memory %.0f MB.",
            result["nwbfile_path"],
            result["backend"],
            result["size_bytes"] / 1e6,
            result["validation"],
            result["elapsed_seconds"],
            result["throughput_mb_per_s"],
            result["peak_memory_bytes"] / 1e6,
        )

    def _environment(self, stop: Event, wrong: ConfigurationError | None = None) -> Environment:
        from airflow_provider_ophys.conversion.environment import Environment

        try:
            # Without these nothing may be looked at: they say where a path may lead.
            defaults = platform_defaults()
        except ConfigurationError as error:
            if wrong is None:
                raise
            raise PreflightError.of([wrong, error]) from error
        return Environment(defaults=defaults, problems=[] if wrong is None else [wrong], stop=stop)


class ConversionOperator(NWBOutputOperator):
    """
    Writes recordings to an NWB file; the options that movies, segmentations and sessions share.

    All options are template fields and take XCom results; each is checked when the task runs, before any work.

    :param backend: ``"hdf5"`` or ``"zarr"``. Default: what the name says (``.zarr``, ``.h5``, ``.hdf5``), else
        HDF5; appending takes that of the file.
    :param backend_configuration: Storage per dataset, such as
        ``{"acquisition/TwoPhotonSeries/data": {"chunk_shape": [64, 128, 128]}}``.
    :param compression: ``"fast"``, ``"small"`` or ``"none"``. Default: ``[ophys] compression``.
    :param if_exists: What to do when there is something at ``nwbfile_path``. ``"reuse"`` (default) returns it if
        this very conversion wrote it; adds what it lacks if it has a part of a session, from the same recordings,
        such as the ROIs that were segmented later; and fails otherwise. ``"fail"``; ``"overwrite"``;
        ``"append"`` adds to it, unless this very conversion did so before.
    :param memory_limit: Most memory for what is in flight, in bytes or as ``"512MiB"``. Default: the smaller of
        ``[ophys] memory_limit`` and the share ``[ophys] memory_fraction`` of what the worker has left.
    :param threads: Number of encoding threads. Default: ``[ophys] threads``.
    :param validate: Before the file is published, check it against the NWB schema and compare samples of its
        arrays with the recording.
    :param inspect: ``"report"`` has nwbinspector look at the file and puts its findings in the log and the result;
        ``"fail"`` also fails, before the file is published, for all that is more than a suggestion. ``"dandi"``
        fails for what the DANDI archive would not take: of subject and session before a pixel is read, of the rest
        before the file is published; HDF5 only. dandi-cli is asked too if ``dandi`` is on PATH.
    :param report: Write ``<name>.report.html`` and ``<name>.report.png`` beside the file: what was converted, at a
        glance. The result names them in ``report``; a report that fails is a warning and ``report_problem``.
    :param check_recording: Check that the recording is complete before it is read. Without it, a remark in the
        result says so.
    :param reuse: What proves that the recording is the one that the output at ``nwbfile_path`` was made from.
        ``"state"``: its files have the same names, sizes, times and samples of content. ``"content"``: all of
        their content is the same, for which it is read once more, before it is converted and at each repetition.
    :param retry_policy: Default: :class:`airflow_provider_ophys.retries.OphysRetryPolicy`, with which a task
        fails at once if a retry cannot help.
    """

    template_fields: Sequence[str] = tuple(ConversionOptions.defaults())
    template_fields_renderers: ClassVar[dict[str, str]] = {"backend_configuration": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = (NWBFileLink(),)

    def __init__(
        self,
        *,
        backend: str | None = None,
        backend_configuration: Mapping[str, Any] | None = None,
        compression: str | None = None,
        if_exists: str = "reuse",
        memory_limit: int | str | None = None,
        threads: int | str | None = None,
        validate: bool | str = True,
        inspect: str | None = None,
        report: bool | str = False,
        check_recording: bool | str = True,
        reuse: str = "state",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backend = backend
        self.backend_configuration = backend_configuration
        self.compression = compression
        self.if_exists = if_exists
        self.memory_limit = memory_limit
        self.threads = threads
        self.validate = validate
        self.inspect = inspect
        self.report = report
        self.check_recording = check_recording
        self.reuse = reuse


class RecordingConversionOperator(ConversionOperator):
    """
    Writes one recording, or several of a kind, to an NWB file; the options that movies and segmentations share.

    :param extractor: Name of a roiextractors class, or an unambiguous short form such as ``"ScanImage"``. A list
        of names for several recordings.
    :param extractor_kwargs: Keyword arguments of that class: paths, sampling frequency (hertz) ... A list of these
        for several recordings in one file.
    :param nwbfile_path: Path of the file (HDF5) or folder (Zarr) to write, absolute; its parent folder must exist.
    :param metadata: A dict, the path of a YAML or JSON file, or a list of these, merged left to right.
    :param source_metadata: Use what the recording's headers say, where ``metadata`` does not say it.
    """

    template_fields_renderers: ClassVar[dict[str, str]] = {
        **ConversionOperator.template_fields_renderers,
        "extractor_kwargs": "json",
        "metadata": "json",
        "iterator_options": "json",
    }
    named_after = ("nwbfile_path",)

    # Its options are those of the operator.
    conversion_class: ClassVar[type[RecordingConversion]]

    def __init__(
        self,
        *,
        extractor: str | Sequence[str],
        extractor_kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        nwbfile_path: str | os.PathLike[str],
        metadata: object = None,
        source_metadata: bool | str = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.extractor = extractor
        self.extractor_kwargs = spell_paths(extractor_kwargs)
        self.nwbfile_path = spell_paths(nwbfile_path)
        self.metadata = spell_nan(spell_paths(metadata))
        self.source_metadata = source_metadata

    @abstractmethod
    def _convert(self, conversion: Any, environment: Environment) -> ImagingResult | SegmentationResult:
        """Run the conversion of this operator's kind."""

    @decides_on_retries
    @leaves_notes("convert")
    def execute(self, context: Context) -> dict[str, Any]:
        """Convert, and return what was written, as plain JSON."""
        with self._stoppable() as stop:
            conversion, environment = self._read_options(stop)
            return self._finish(context, conversion, self._convert(conversion, environment), environment)

    def _read_options(self, stop: Event) -> tuple[Any, Environment]:
        """Check the options, which are rendered now; those that are wrong go with what the conversion finds."""
        conversion, wrong = self.conversion_class.read_options(
            {option: getattr(self, option) for option in self.template_fields}
        )
        if conversion is None:
            raise cast("ConfigurationError", wrong)
        return conversion, self._environment(stop, wrong)
