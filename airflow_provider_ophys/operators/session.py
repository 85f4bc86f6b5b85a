"""From a microscope's folder to an NWB file with all of its session, in two tasks."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink, RetryPolicy
from pydantic import TypeAdapter, ValidationError

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.metadata import spell_nan
from airflow_provider_ophys.models.output_path import spell_paths
from airflow_provider_ophys.models.session import session_conversion
from airflow_provider_ophys.operators.conversion import ConvertingOperator
from airflow_provider_ophys.operators.lineage import NWBFileLink
from airflow_provider_ophys.retries import RETRY_POLICY
from airflow_provider_ophys.settings import platform_defaults

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_ophys.sessions.subject_table import SubjectTable


class DescribeSessionOperator(BaseOperator):
    """
    Tells which recordings lie in a folder, and what is known of the session; no pixel is read.

    Returns the :class:`airflow_provider_ophys.models.session.Session` as JSON, for :class:`WriteSessionOperator`.
    What cannot be decided fails the task, with a message that says what to write where.

    :param folder: Of the session, as the microscope left it.
    :param metadata: Over all else: a dict, the path of a YAML or JSON file, or a list of these.
    :param root: The uppermost folder whose ``lab.yaml`` counts. Default: that of the file system.
    :param subject_table: Path of a CSV file with the column ``subject_id`` and other fields of ``Subject``, or a
        function that returns these for a subject's id.
    :param folder_name: What the folder's name says, such as ``"{subject_id}_{session_start_time:%Y%m%d}"``, or a
        regular expression with named groups.
    :param volumes: Whether a volume stays one 4-D series; otherwise each of its planes becomes a series.
    :param retry_policy: Default: :class:`airflow_provider_ophys.retries.OphysRetryPolicy`.
    """

    template_fields: Sequence[str] = ("folder", "metadata", "root", "subject_table", "folder_name", "volumes")
    template_fields_renderers: ClassVar[dict[str, str]] = {"metadata": "json"}
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str],
        metadata: object = None,
        root: str | os.PathLike[str] | None = None,
        subject_table: SubjectTable | None = None,
        folder_name: str | None = None,
        volumes: bool | str = True,
        retry_policy: RetryPolicy | None = RETRY_POLICY,
        **kwargs: Any,
    ) -> None:
        super().__init__(retry_policy=retry_policy, **kwargs)
        self.folder = spell_paths(folder)
        self.metadata = spell_nan(spell_paths(metadata))
        self.root = spell_paths(root)
        self.subject_table = spell_paths(subject_table)
        self.folder_name = folder_name
        self.volumes = volumes

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Describe, and tell the log what is assumed, missing or contradictory."""
        from airflow_provider_ophys.sessions import describe_session

        defaults = platform_defaults()
        session = describe_session(
            self.folder,
            metadata=self.metadata,
            root=self.root,
            subject_table=self.subject_table,
            folder_name=self.folder_name,
            volumes=self._volumes(),
            allowed_roots=defaults.allowed_roots,
            allow_pickle=defaults.allow_pickle,
        )
        for remark in session.remarks:
            self.log.warning("%s", remark)
        movies, segmentations = len(session.imaging), len(session.segmentation)
        self.log.info("%s has %d movies and %d segmentations.", session.folder, movies, segmentations)
        return session.model_dump(mode="json")

    def _volumes(self) -> bool:
        try:
            return TypeAdapter(bool).validate_python(self.volumes)
        except ValidationError as error:
            raise ConfigurationError(f"volumes is {self.volumes!r}. Write True or False.") from error


class WriteSessionOperator(ConvertingOperator):
    """
    Writes all movies and segmentations of a session into one NWB file, in one task.

    Returns JSON as :class:`airflow_provider_ophys.operators.imaging.WriteImagingOperator` does, of all of them.
    The other options are those of :class:`airflow_provider_ophys.operators.conversion.ConversionOperator`.

    :param session: What :class:`DescribeSessionOperator` returned; or a dict with the lists ``imaging`` and
        ``segmentation``, of the options of each movie and segmentation, and with ``metadata``.
    :param nwbfile_path: Of the file (HDF5) or folder (Zarr) to write, absolute; its parent folder must exist.
    """

    template_fields: Sequence[str] = (
        "session",
        "nwbfile_path",
        "backend",
        "backend_configuration",
        "compression",
        "if_exists",
        "memory_limit",
        "threads",
        "validate",
        "inspect",
        "report",
        "check_recording",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"session": "json", "backend_configuration": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = (NWBFileLink(),)

    def __init__(
        self,
        *,
        session: Mapping[str, Any],
        nwbfile_path: str | os.PathLike[str],
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session = session
        self.nwbfile_path = spell_paths(nwbfile_path)
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

    def execute(self, context: Context) -> dict[str, Any]:
        """Convert, and return what was written, as plain JSON."""
        from airflow_provider_ophys.conversion.run import convert_session

        options = {name: getattr(self, name) for name in self.template_fields if name != "session"}
        conversion = session_conversion(self.session, **options)
        with self._stoppable() as stop:
            environment = self._environment(stop)
            return self._finish(context, conversion, convert_session(conversion, environment), environment)
