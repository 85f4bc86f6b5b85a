"""From a microscope's folder to an NWB file with all of its session, here and in S3."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import task_group
from pydantic import TypeAdapter, ValidationError

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.metadata import spell_nan
from airflow_provider_ophys.models.output_path import spell_paths
from airflow_provider_ophys.models.session import session_conversion
from airflow_provider_ophys.operators.conversion import ConversionOperator
from airflow_provider_ophys.operators.naming import NamedOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.retries import RETRY_POLICY, decides_on_retries, policy_argument
from airflow_provider_ophys.session_notes import leaves_notes
from airflow_provider_ophys.settings import platform_defaults

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy

    from airflow_provider_ophys.sessions.subject_table import SubjectTable


class DescribeSessionOperator(NamedOperator):
    """
    Tells which recordings lie in a folder, and what is known of the session; no pixel is read.

    Returns the :class:`airflow_provider_ophys.models.session.Session` as JSON, for :class:`WriteSessionOperator`.
    What cannot be decided fails the task, with a message that says what to write where.

    :param folder: Folder of the session, as the microscope left it: a path, or a dict with ``path`` and ``name``,
        as the sensor, the trigger and ``arrived_folders`` hand over. Without a name, the session is named after
        its path below ``root``, or after the folder.
    :param metadata: A dict, the path of a YAML or JSON file, or a list of these. It wins over all other metadata.
    :param root: The uppermost folder whose ``lab.yaml`` counts. Default: the root of the file system.
    :param subject_table: Path of a CSV file with the column ``subject_id`` and other fields of ``Subject``, or a
        function that returns these for a subject's id.
    :param folder_name: What the parts of the folder's name mean, such as
        ``"{subject_id}_{session_start_time:%Y%m%d}"``; or a regular expression with named groups.
    :param volumes: Whether a volume becomes one 4-D series; otherwise each of its planes becomes a series.
    :param retry_policy: Default: :class:`airflow_provider_ophys.retries.OphysRetryPolicy`.
    """

    template_fields: Sequence[str] = ("folder", "metadata", "root", "subject_table", "folder_name", "volumes")
    template_fields_renderers: ClassVar[dict[str, str]] = {"metadata": "json"}
    ui_color = "#d5e8d4"
    named_after = ("folder",)

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] | Mapping[str, Any],
        metadata: object = None,
        root: str | os.PathLike[str] | None = None,
        subject_table: SubjectTable | None = None,
        folder_name: str | None = None,
        volumes: bool | str = True,
        retry_policy: RetryPolicy | None = RETRY_POLICY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**policy_argument(retry_policy), **kwargs)
        self.folder = spell_paths(folder)
        self.metadata = spell_nan(spell_paths(metadata))
        self.root = spell_paths(root)
        self.subject_table = spell_paths(subject_table)
        self.folder_name = folder_name
        self.volumes = volumes

    @decides_on_retries
    @leaves_notes("describe")
    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Describe, and tell the log what is assumed, missing or contradictory."""
        from airflow_provider_ophys.sessions import describe_session

        defaults = platform_defaults()
        folder, name = self._folder_and_name()
        session = describe_session(
            folder,
            name=name,
            # A template may render to nothing, as of a Variable that is not set.
            metadata=self.metadata or None,
            root=self.root or None,
            subject_table=self.subject_table or None,
            folder_name=self.folder_name or None,
            volumes=self._volumes(),
            allowed_roots=defaults.allowed_roots,
            allow_pickle=defaults.allow_pickle,
        )
        for remark in session.remarks:
            self.log.warning("%s", remark)
        movies, segmentations = len(session.imaging), len(session.segmentation)
        self.log.info("%s has %d movies and %d segmentations.", session.folder, movies, segmentations)
        return session.model_dump(mode="json")

    def _folder_and_name(self) -> tuple[str, str | None]:
        folder: Any = self.folder
        name = None
        if isinstance(folder, Mapping):
            folder, name = folder.get("path"), folder.get("name")
        if not isinstance(folder, str) or not folder or not isinstance(name, (str, type(None))):
            raise ConfigurationError(
                f"folder is {self.folder!r}. Give the path of a folder, or a dict with its path and name, as "
                "AcquisitionFolderSensor returns them."
            )
        return folder, name

    def _volumes(self) -> bool:
        try:
            return TypeAdapter(bool).validate_python(self.volumes)
        except ValidationError as error:
            raise ConfigurationError(f"volumes is {self.volumes!r}. Write True or False.") from error


class WriteSessionOperator(ConversionOperator):
    """
    Writes all movies and segmentations of a session into one NWB file, in one task.

    Returns JSON as :class:`airflow_provider_ophys.operators.imaging.WriteImagingOperator` does, of all of them,
    and ``session``, with ``folder``, ``name``, ``subject_id`` and ``session_id``; the same is on the event of the
    outlet asset. It takes the options of
    :class:`~airflow_provider_ophys.operators.conversion.ConversionOperator` too.

    :param session: What :class:`DescribeSessionOperator` returned; or a dict with the lists ``imaging`` and
        ``segmentation``, of the options of each movie and segmentation, and with ``metadata``.
    :param nwbfile_path: Of the file (HDF5) or folder (Zarr) to write, absolute; its parent folder must exist.
    :param output_folder: Instead of it, the folder in which the file gets the session's name, with ``_`` for ``/``
        and with ``.nwb`` or, of Zarr, ``.nwb.zarr``. It is made if it is not there. Of two sessions that would get
        one file, such as ``a/b`` and ``a_b``, the second is refused.
    """

    template_fields: Sequence[str] = (
        "session",
        "nwbfile_path",
        "output_folder",
        *ConversionOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **ConversionOperator.template_fields_renderers,
        "session": "json",
    }
    named_after = ("session", "nwbfile_path")

    def __init__(
        self,
        *,
        session: Mapping[str, Any],
        nwbfile_path: str | os.PathLike[str] | None = None,
        output_folder: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session = session
        self.nwbfile_path = spell_paths(nwbfile_path)
        self.output_folder = spell_paths(output_folder)

    @decides_on_retries
    @leaves_notes("convert")
    def execute(self, context: Context) -> dict[str, Any]:
        """Convert, and return what was written, as plain JSON."""
        from airflow_provider_ophys.conversion.session import convert_session

        options = {name: getattr(self, name) for name in ConversionOperator.template_fields}
        with self._stoppable() as stop:
            environment = self._environment(stop)
            path = self._nwbfile_path(environment.defaults.allowed_roots)
            conversion = session_conversion(self.session, path, **options)
            return self._finish(context, conversion, convert_session(conversion, environment), environment)

    def _nwbfile_path(self, allowed_roots: Sequence[Path]) -> str | Path:
        if bool(self.nwbfile_path) == bool(self.output_folder):
            raise ConfigurationError(
                f"nwbfile_path is {self.nwbfile_path!r}, output_folder {self.output_folder!r}. Give one of them."
            )
        if self.nwbfile_path:
            return str(self.nwbfile_path)
        name = self.session.get("name") if isinstance(self.session, Mapping) else None
        if not name or not isinstance(name, str):
            raise ConfigurationError(
                "session has no name after which a file in output_folder could be called. Give nwbfile_path, or "
                "what DescribeSessionOperator returns."
            )
        from airflow_provider_ophys.conversion.session import make_nwbfile_path

        return make_nwbfile_path(self.output_folder, name, self.backend, allowed_roots)


_OF_DESCRIBING = frozenset(DescribeSessionOperator.template_fields) - {"folder"}
_OF_WRITING = frozenset(ConversionOperator.template_fields)
_OF_STAGING = frozenset(StageToS3Operator.template_fields) - {"source", "destination"} - _OF_WRITING


@task_group
def convert_session(
    folder: str | os.PathLike[str] | Mapping[str, Any],
    output_folder: str | os.PathLike[str],
    destination: str | None = None,
    **options: Any,
) -> None:
    """
    Describe a folder, write all of its session into one NWB file with a report, and stage both to S3.

    Makes a task group of ``describe``, ``write`` and, if there is a destination, ``stage``. It is called once, or
    mapped over folders: ``convert_session.partial(output_folder="/data/nwb").expand(folder=sensor.output)``;
    ``convert_session.override(group_id="...")`` gives it another name. Airflow cannot expand it by
    ``expand_kwargs``.

    :param folder: As of :class:`DescribeSessionOperator`.
    :param output_folder: As of :class:`WriteSessionOperator`.
    :param destination: Where the file and its report are staged, ``s3://bucket/prefix/``.
    :param options: Those of :class:`DescribeSessionOperator`, of :class:`WriteSessionOperator`, but with a
        ``report`` by default, and of :class:`airflow_provider_ophys.operators.staging.StageToS3Operator`, but
        ``memory_limit``, which is that of writing. Airflow's own, such as ``retries``, ``pool`` and
        ``executor_config``, are those of all tasks, ``outlets`` those of the last.
    :raises ConfigurationError: If there are options of staging and no destination.
    """
    outlets = options.pop("outlets", None)
    describing, writing, staging = (
        {name: options.pop(name) for name in sorted(names & options.keys())}
        for names in (_OF_DESCRIBING, _OF_WRITING, _OF_STAGING)
    )
    described: Any = DescribeSessionOperator(task_id="describe", folder=folder, **describing, **options).output
    writing = {"report": True, "outlets": None if destination else outlets, **writing, **options}
    written: Any = WriteSessionOperator(
        task_id="write", session=described, output_folder=output_folder, **writing
    ).output
    if destination:
        StageToS3Operator(
            task_id="stage", source=written, destination=destination, outlets=outlets, **staging, **options
        )
    elif staging:
        raise ConfigurationError(f"{', '.join(staging)} of convert_session is of staging. Give a destination too.")
