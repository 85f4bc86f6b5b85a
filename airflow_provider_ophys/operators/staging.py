"""Publishing finished NWB files in S3."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from airflow_provider_ophys.assets import announce_output
from airflow_provider_ophys.compat import conf
from airflow_provider_ophys.exceptions import StagingDamageError, StagingError
from airflow_provider_ophys.models.allowed_roots import check_allowed
from airflow_provider_ophys.models.result import REPORT_SUFFIXES
from airflow_provider_ophys.operators.report_maker import maker_in
from airflow_provider_ophys.operators.stopping import StoppableOperator, call_until_stopped
from airflow_provider_ophys.plugin.ophys_plugin import URL_PREFIX
from airflow_provider_ophys.retries import RETRY_POLICY, decides_on_retries, policy_argument
from airflow_provider_ophys.session_notes import leaves_notes
from airflow_provider_ophys.settings import allowed_roots
from airflow_provider_ophys.staging.options import StageToS3Options
from airflow_provider_ophys.staging.plan import local_source
from airflow_provider_ophys.writing.replacement import settle

if TYPE_CHECKING:
    from threading import Event

    from airflow.sdk import Context, RetryPolicy
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_ophys.hooks.s3 import OphysS3Hook
    from airflow_provider_ophys.report.origin import Maker
    from airflow_provider_ophys.staging.audit import AuditReport
    from airflow_provider_ophys.staging.options import StagingResult


# Those that also hold for the report of what is staged.
_REPORT_OPTIONS = ("dry_run", "unsafe_no_conditional", "memory_limit", "extra_args")
ADDRESS_KEY = "staged_address"
# Which asks people to log in, and then shows what they may see.
CONSOLE = "https://s3.console.aws.amazon.com/"
AUDIT_KEY = "audit"


class StagedObjectLink(BaseOperatorLink):
    """A button beside the task that leads to what it staged."""

    name = "Staged object"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow calls it so
        """
        Give the address that the task left in XCom; empty if there is none.

        Where only a signed address opens an object, and a record beside it proves that the task staged it, it is
        that of the web UI's page which signs one.
        """
        address = str(XCom.get_value(ti_key=ti_key, key=ADDRESS_KEY) or "")
        result = XCom.get_value(ti_key=ti_key, key="return_value")
        base_url = conf.get("api", "base_url", fallback="").rstrip("/")
        if address.startswith(CONSOLE) or not base_url or not _has_record(result):
            return address
        task = {name: getattr(ti_key, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
        return f"{base_url}{URL_PREFIX}/object?{urlencode(task)}"


class StageToS3Operator(StoppableOperator):
    """
    Upload a finished NWB file or Zarr tree to S3 and verify every object against the server's listing.

    Readers of the bucket see all of it or none of it: a file appears when it is complete, and a tree cannot be
    opened before its root metadata, which is sent last. Running the task again sends only what is missing.

    The result, in XCom and on the event of each outlet asset, is plain JSON: ``source`` (the local path),
    ``s3_uri``, ``manifest_uri`` (of a tree), ``latest_uri`` (of the versioned layout), ``digest``, ``objects``,
    ``size_bytes``, ``uploaded``, ``skipped``, ``deleted`` (objects of earlier content), ``sent_bytes``,
    ``copied_bytes`` (by the store, of what it has), ``deleted_local``, ``dry_run``, ``elapsed_seconds`` and
    ``report``: the addresses of ``html``, ``png`` and ``thumbnail`` if the source is a result that names a report,
    which is staged beside the file, verified like it, and never deleted here; else None; ``session``, which one it
    is if the source is the result of writing a session; else None.
    An outlet ``AssetAlias`` gets an asset with the URI of what was staged.

    :param source: Path of the file or tree, or the result of a write operator (``write.output``).
    :param destination: Where it goes, ``s3://bucket/prefix/``; the name of the source is added. Fields such as
        ``{subject_id}``, ``{session_id}``, ``{session_start_time:%Y%m%d}`` and ``{identifier}`` stand for what the
        file says.
    :param aws_conn_id: Id of the Airflow connection of type ``aws``. None leaves the search for credentials to
        boto3.
    :param region_name: Region of the bucket; by default the connection's.
    :param verify: Whether to check TLS certificates, or the path of a CA bundle; by default the connection's.
    :param overwrite: Whether other content of that name may be replaced. Of a tree, objects that the new one
        lacks are then deleted. Without it the task fails when it finds other content, and leaves that as it is.
    :param layout: ``"in_place"`` is ``<name>``, where a tree that is replaced is absent for a while.
        ``"versioned"`` is ``<name>/<digest>/<name>`` for each content, all of which stay, and
        ``<name>/latest.json``, which is switched to the newest at once.
    :param unsafe_no_conditional: Stage to a store that does not support conditional writes (``If-None-Match``),
        which is refused otherwise. You then have to ensure that only one task at a time writes to a destination.
    :param memory_limit: Most memory that staging uses beyond its imports, at least 32 MiB: bytes, or ``"512MiB"``.
    :param extra_args: Arguments of the requests, named as in boto3: ``ServerSideEncryption``, ``SSEKMSKeyId``,
        ``Tagging``, ``StorageClass``, ``ACL``, ``ExpectedBucketOwner``.
    :param dry_run: Only report what would be done: nothing is written, deleted or announced.
    :param verify_only: Audit what was staged earlier: compare it with the source or, if that is not there any
        more, with the manifest of the tree or the ``digest`` in the result of its staging, given as the source.
        Returns ``missing``, ``altered`` and ``extra`` keys, and fails if there are any.
    :param delete_local: ``"after_verify"`` deletes the source when a listing has just confirmed all of it.
    :param dandi_path: Name the file as ``dandi organize`` would, below the destination:
        ``sub-m1/sub-m1_ses-a_ophys.nwb``. HDF5 only.
    :param max_concurrency: Most requests at the same time. The default is that of boto3.
    :param allow_insecure_http: Whether data may be sent over plain http to another machine.
    :param retry_policy: Default: :class:`airflow_provider_ophys.retries.OphysRetryPolicy`.

    A missing or unsuitable source, a wrong destination, connection, bucket or right, and other content at the
    destination fail the task at once. Other errors may pass, and leave the task its retries.
    """

    template_fields: Sequence[str] = ("source", "destination", *StageToS3Options.model_fields)
    operator_extra_links = (StagedObjectLink(),)
    ui_color = "#d9e8c9"
    named_after = ("source",)

    def __init__(
        self,
        *,
        source: str | os.PathLike[str] | Mapping[str, Any],
        destination: str,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        overwrite: bool | str = False,
        layout: str = "in_place",
        unsafe_no_conditional: bool | str = False,
        memory_limit: int | str = "256MiB",
        extra_args: Mapping[str, str] | None = None,
        dry_run: bool | str = False,
        verify_only: bool | str = False,
        delete_local: str = "never",
        dandi_path: bool | str = False,
        max_concurrency: int | str = 10,
        allow_insecure_http: bool | str = False,
        retry_policy: RetryPolicy | None = RETRY_POLICY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**policy_argument(retry_policy), **kwargs)
        self.source = source
        self.destination = destination
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.overwrite = overwrite
        self.layout = layout
        self.unsafe_no_conditional = unsafe_no_conditional
        self.memory_limit = memory_limit
        self.extra_args = extra_args or {}
        # Airflow's operators have a method of that name, which renders templates; nothing in Airflow calls it.
        self.dry_run = dry_run  # type: ignore[assignment, method-assign]
        self.verify_only = verify_only
        self.delete_local = delete_local
        self.dandi_path = dandi_path
        self.max_concurrency = max_concurrency
        self.allow_insecure_http = allow_insecure_http

    @decides_on_retries
    @leaves_notes("stage", unless=lambda operator: str(operator.dry_run).lower() in {"true", "1", "yes", "on"})
    def execute(self, context: Context) -> dict[str, Any]:
        """Publish or audit; return what was done or found."""
        unfinished = StagingError(
            "Staging was stopped while the server did not answer. Run it again: what is already there is not sent "
            "twice."
        )
        options = StageToS3Options.parse({name: getattr(self, name) for name in StageToS3Options.model_fields})
        with self._stoppable() as stop:
            if options.verify_only:
                report = call_until_stopped(lambda: self._audit(options, stop), stop, unfinished)
                return self._result_of_audit(report, context)
            owner, maker = _task_instance(context), maker_in(context)
            result, address = call_until_stopped(
                lambda: self._stage(options, stop, owner, maker), stop, unfinished
            )
        if not options.dry_run:
            _push(self, context, ADDRESS_KEY, address)
            # Asset URIs have the syntax of URLs, which keys need not have.
            announce_output(self, context, quote(result["s3_uri"], safe="/:!$&'()*+,;=@"), result)
        return result

    def _hook(self, options: StageToS3Options) -> OphysS3Hook:
        from airflow_provider_ophys.hooks.s3 import OphysS3Hook

        self._check_source()
        return OphysS3Hook(
            options.aws_conn_id,
            region_name=options.region_name,
            verify=options.verify,
            max_concurrency=options.max_concurrency,
            allow_insecure_http=options.allow_insecure_http,
        )

    def _stage(
        self, options: StageToS3Options, stop: Event, owner: str | None, maker: Maker | None
    ) -> tuple[dict[str, Any], str]:
        """Publish the source and its report; return the result, and the address for people."""
        hook = self._hook(options)
        how = options.of_publishing()
        staged = hook.publish(self.source, self.destination, stopped=stop, owner=owner, **how)
        # Of a report there is only one: it follows the file, whatever was there.
        how = {"overwrite": True, **{name: how[name] for name in _REPORT_OPTIONS}}
        beside = f"{staged.s3_uri.rpartition('/')[0]}/"
        files = self._report_files(staged)
        report = {
            kind: hook.publish(path, beside, stopped=stop, owner=owner, **how).s3_uri
            for kind, path in files.items()
        }
        if report and maker is not None:
            with _record_of(files, maker) as record:
                hook.publish(record, beside, stopped=stop, owner=owner, **how)
        session = self.source.get("session") if isinstance(self.source, Mapping) else None
        result = {**staged.to_json(), "report": report or None, "session": session}
        return result, hook.address(staged.s3_uri)

    def _report_files(self, staged: StagingResult) -> dict[str, Path]:
        """Find the report that the source names, by kind."""
        if not isinstance(self.source, Mapping) or not self.source.get("report"):
            return {}
        # Only what lies beside the file: a path in an XCom must not publish any file of this machine.
        paths = {kind: Path(f"{staged.source}{suffix}") for kind, suffix in REPORT_SUFFIXES.items()}
        if gone := [path.name for path in paths.values() if not path.is_file()]:
            self.log.warning("The report was not staged: %s is not beside the file.", ", ".join(gone))
            return {}
        return paths

    def _check_source(self) -> None:
        roots = allowed_roots()
        of_a_result = self.source.get("source") if isinstance(self.source, Mapping) else None
        source = Path(of_a_result or local_source(self.source))
        check_allowed("source", source, roots)
        # A conversion may have been killed as it replaced what was staged before.
        settle(source)
        report = (self.source.get("report") if isinstance(self.source, Mapping) else None) or {}
        for kind in REPORT_SUFFIXES:
            if kind in report:
                check_allowed(f"source.report.{kind}", report[kind], roots)

    def _audit(self, options: StageToS3Options, stop: Event) -> AuditReport:
        hook = self._hook(options)
        return hook.audit(
            self.source,
            self.destination,
            dandi_path=options.dandi_path,
            extra_args=options.extra_args,
            stopped=stop,
        )

    def _result_of_audit(self, report: AuditReport, context: Context) -> dict[str, Any]:
        if not report.intact:
            _push(self, context, AUDIT_KEY, report.to_json())
            found = {"missing": report.missing, "altered": report.altered, "extra": report.extra}
            named = "; ".join(f"{len(keys)} {kind}, such as {keys[0]}" for kind, keys in found.items() if keys)
            raise StagingDamageError(
                f"What was staged to {report.s3_uri} is not there as it was: {named}. All are in the log and "
                f"in the XCom {AUDIT_KEY!r}. Stage it again, or restore it."
            )
        return report.to_json()


def _has_record(result: object) -> bool:
    """Tell whether a report, and with it the record of who staged it, has the name of what was staged."""
    if not isinstance(result, dict) or not result.get("report"):
        return False
    return bool(result["report"]["html"] == f"{result['s3_uri']}{REPORT_SUFFIXES['html']}")


@contextmanager
def _record_of(files: Mapping[str, Path], maker: Maker) -> Iterator[Path]:
    """Write the record of who made a report, with the task that stages it, where it can be staged from."""
    from airflow_provider_ophys.report.origin import origin_of, record_path, write_origin

    with tempfile.TemporaryDirectory(prefix="ophys-report-") as folder:
        yield write_origin(origin_of(files, maker), Path(folder) / record_path(files["html"]).name)


def _push(operator: BaseOperator, context: Context, key: str, value: object) -> None:
    if operator.do_xcom_push and "ti" in context:
        context["ti"].xcom_push(key=key, value=value)


def _task_instance(context: Context) -> str | None:
    """Name what Airflow runs once at a time, whichever try it is."""
    instance = context.get("ti")
    if instance is None:
        return None
    return "/".join(map(str, (instance.dag_id, instance.run_id, instance.task_id, instance.map_index)))
