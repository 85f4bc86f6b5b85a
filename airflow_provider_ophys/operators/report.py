"""Draw what is in an NWB file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_ophys.exceptions import ConfigurationError, ConversionStoppedError
from airflow_provider_ophys.models.allowed_roots import check_allowed
from airflow_provider_ophys.models.rendered_options import none_if_blank, parse_bytes
from airflow_provider_ophys.operators.report_maker import maker_in, record_maker
from airflow_provider_ophys.operators.stopping import StoppableOperator, call_until_stopped
from airflow_provider_ophys.retries import RETRY_POLICY, decides_on_retries, policy_argument
from airflow_provider_ophys.session_notes import leaves_notes
from airflow_provider_ophys.settings import allowed_roots, platform_defaults
from airflow_provider_ophys.staging.plan import Destination, local_source

if TYPE_CHECKING:
    from threading import Event

    from airflow.sdk import Context, RetryPolicy

    from airflow_provider_ophys.hooks.s3 import OphysS3Hook
    from airflow_provider_ophys.models.result import Report
    from airflow_provider_ophys.report.origin import Maker
    from airflow_provider_ophys.writing.sharing import Resources

S3 = "s3://"


class WriteReportOperator(StoppableOperator):
    """
    Write the report of any NWB file, HDF5 or Zarr (format 3), on a disk or in S3, written by any software.

    The report is ``<name>.report.html``, a page that needs nothing else, ``<name>.report.png`` and
    ``<name>.report.thumbnail.png``. Every frame is read, from S3 too, and never copied. Returns JSON with
    ``nwbfile_path`` or ``s3_uri`` (of the file) and ``report``, as the write operators do.

    :param source: Path of the file or tree, its address ``s3://bucket/key``, or the result of a write operator or
        of ``StageToS3Operator``, which is then read in S3.
    :param report_folder: Where the report goes: a folder, or ``s3://bucket/prefix/``. Default: beside the file.
    :param memory_limit: Most memory for what is in flight, in bytes or as ``"512MiB"``. Default: as for a
        conversion.
    :param sample: Most to read of each movie, uncompressed, in bytes or as ``"1GiB"``; what is read is spread
        evenly over the recording. Default: all of it.
    :param aws_conn_id: Id of the Airflow connection of type ``aws``.
    :param retry_policy: Default: :class:`airflow_provider_ophys.retries.OphysRetryPolicy`.
    """

    template_fields: Sequence[str] = ("source", "report_folder", "memory_limit", "sample", "aws_conn_id")
    ui_color = "#d4e4f7"
    named_after = ("source",)

    def __init__(
        self,
        *,
        source: str | os.PathLike[str] | Mapping[str, Any],
        report_folder: str | None = None,
        memory_limit: int | str | None = None,
        sample: int | str | None = None,
        aws_conn_id: str | None = "aws_default",
        retry_policy: RetryPolicy | None = RETRY_POLICY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**policy_argument(retry_policy), **kwargs)
        self.source = source
        self.report_folder = report_folder
        self.memory_limit = memory_limit
        self.sample = sample
        self.aws_conn_id = aws_conn_id
        self._maker: Maker | None = None

    @decides_on_retries
    @leaves_notes("report")
    def execute(self, context: Context) -> dict[str, Any]:
        """Write the report, and return where it is and what it says in short."""
        unfinished = ConversionStoppedError(
            "Writing the report was stopped while a server or a disk did not answer. Run it again."
        )
        self._maker = maker_in(context)
        with self._stoppable() as stop:
            written = call_until_stopped(lambda: self._report(stop), stop, unfinished)
        self.log.info("Wrote %s.", written["report"]["html"])
        return written

    def _report(self, stop: Event) -> dict[str, Any]:
        uri = _s3_uri(self.source)
        if self.report_folder is not None and not str(self.report_folder).startswith("s3://"):
            check_allowed("report_folder", self.report_folder, allowed_roots())
        with self._resources(stop) as resources:
            if uri is not None:
                report = self._of_object(uri, resources)
                named = {"s3_uri": uri}
            else:
                path = local_source(self.source)
                check_allowed("source", path, allowed_roots())
                report = self._of_path(path, resources)
                named = {"nwbfile_path": str(path)}
        return {**named, "report": report.model_dump(mode="json")}

    @contextmanager
    def _resources(self, stop: Event) -> Iterator[Resources]:
        from airflow_provider_ophys.writing.sharing import Wish, sharing

        defaults = platform_defaults()
        wish = Wish(
            memory_limit=_bytes("memory_limit", self.memory_limit),
            default_limit=defaults.memory_limit,
            fraction=defaults.memory_fraction,
        )
        with sharing(wish, stop) as resources:
            yield resources

    def _of_path(self, path: Path, resources: Resources) -> Report:
        from airflow_provider_ophys.conversion.preflight import size_on_disk
        from airflow_provider_ophys.nwb.existing import backend_of

        backend_of(path)
        return self._write(path, path.parent, path.name, resources, size_bytes=size_on_disk(path))

    def _of_object(self, uri: str, resources: Resources) -> Report:
        place = Destination.parse(uri)
        key = place.prefix.removesuffix("/")
        beside, _, name = uri.rstrip("/").rpartition("/")
        with self._hook().opened(place.bucket, key) as remote:
            return self._write(remote, f"{beside}/", name, resources, size_bytes=remote.size_bytes)

    def _write(
        self, source: Any, beside: Path | str, name: str, resources: Resources, *, size_bytes: int
    ) -> Report:
        from airflow_provider_ophys.report.files import write_report

        target = self.report_folder or beside
        # What staging returns does not tell how the file was written.
        is_conversion = isinstance(self.source, Mapping) and "throughput_mb_per_s" in self.source
        options: dict[str, Any] = {
            "sample": _bytes("sample", self.sample),
            "size_bytes": size_bytes,
            "result": self.source if is_conversion else None,
        }
        if not str(target).startswith(S3):
            report = write_report(source, _folder(Path(target)), name, resources, **options)
            record_maker(self._maker, report.files)
            return report
        with tempfile.TemporaryDirectory(prefix="ophys-report-") as folder:
            report = write_report(source, Path(folder), name, resources, **options)
            return self._publish(report, str(target), resources.stop)

    def _publish(self, report: Report, destination: str, stop: Event) -> Report:
        hook = self._hook()
        published = {
            kind: hook.publish(path, destination, stopped=stop, overwrite=True).s3_uri
            for kind, path in report.files.items()
        }
        if record := record_maker(self._maker, report.files):
            hook.publish(record, destination, stopped=stop, overwrite=True)
        return report.model_copy(update=published)

    def _hook(self) -> OphysS3Hook:
        from airflow_provider_ophys.hooks.s3 import OphysS3Hook

        return OphysS3Hook(self.aws_conn_id)


def _s3_uri(source: object) -> str | None:
    named = source.get("s3_uri") if isinstance(source, Mapping) else source
    return named if isinstance(named, str) and named.startswith(S3) else None


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigurationError(f"The folder of the report, {folder}, does not exist. Create it.")
    return folder


def _bytes(name: str, value: int | str | None) -> int | None:
    try:
        return None if none_if_blank(value) is None else parse_bytes(value)
    except ValueError as error:
        raise ConfigurationError(f"{name} is wrong: {error}") from error
