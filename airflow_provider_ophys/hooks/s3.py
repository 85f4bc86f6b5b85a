"""
Staging to S3 with an Airflow connection of type ``aws``.

Import this module where a task runs, not where a DAG is defined: it loads boto3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urlsplit

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.config import Config
from botocore.exceptions import InvalidRegionError

from airflow_provider_ophys.compat import AirflowNotFoundException, get_hook_lineage_collector
from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.staging.audit import AuditReport, audit
from airflow_provider_ophys.staging.naming import destination_of, fixed_part
from airflow_provider_ophys.staging.options import StagingOptions, StagingResult
from airflow_provider_ophys.staging.plan import local_source, plan_staging
from airflow_provider_ophys.staging.publication import publish
from airflow_provider_ophys.staging.s3_errors import explained
from airflow_provider_ophys.staging.s3_store import S3Store
from airflow_provider_ophys.staging.transfer_threads import TransferThreads

if TYPE_CHECKING:
    from airflow_provider_ophys.staging.reading import RemoteFile, RemoteTree


class OphysS3Hook(AwsBaseHook):
    """
    Publish NWB files and Zarr trees in S3 or a store that speaks its protocol.

    Credentials, roles, region and endpoint come from an Airflow connection of type ``aws``, as for all hooks of
    the Amazon provider. Bytes always go over boto3's own connections and never through the CRT client, which
    ignores the connection's ``endpoint_url``. A request waits at most 5 s for a connection and 60 s for an answer
    and is tried at most 5 times, one for a small object of a tree once more, unless the connection's
    ``config_kwargs`` say otherwise.

    :param aws_conn_id: Id of the connection. None leaves the search for credentials to boto3: environment,
        profile, the machine's role.
    :param region_name: Region of the bucket; by default the connection's.
    :param verify: Whether to check TLS certificates, or the path of a CA bundle; by default the connection's.
    :param max_concurrency: Most requests at the same time, as many as boto3 makes by default.
    :param allow_insecure_http: Whether data may go over plain http to another machine.
    """

    def __init__(
        self,
        aws_conn_id: str | None = AwsBaseHook.default_conn_name,
        *,
        region_name: str | None = None,
        verify: bool | str | None = None,
        max_concurrency: int = 10,
        allow_insecure_http: bool = False,
    ) -> None:
        super().__init__(aws_conn_id=aws_conn_id, client_type="s3", region_name=region_name, verify=verify)
        self.max_concurrency = max_concurrency
        self.allow_insecure_http = allow_insecure_http

    def publish(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any],
        destination: str,
        *,
        stopped: Event | None = None,
        owner: str | None = None,
        **options: Any,
    ) -> StagingResult:
        """
        Upload a finished NWB file or Zarr tree and verify every object against the server's listing.

        Objects that are there already with the same content are not sent again; when all are, nothing is.

        :param source: Path of the file or tree, or the result of a write operator.
        :param destination: ``s3://bucket/prefix/``; the name of the source is added.
        :param stopped: When it is set, the upload ends with an error after the requests under way.
        :param owner: Who stages, the same for all tries of one task instance: a later try need not wait until
            the lease of a killed one has expired.
        :param options: Those of :class:`~airflow_provider_ophys.staging.options.StagingOptions`.
        :raises SourceNotFoundError: If there is no source.
        :raises SourceDataError: If the source is no file or Zarr tree, or holds a link, a device, an odd name.
        :raises ConfigurationError: If destination, connection, credentials, rights or bucket are wrong.
        :raises StagingConflictError: If other content is at the destination and must not be replaced.
        :raises OutputBusyError: If another writer took over. A later try may succeed.
        :raises StagingError: If the server fails, the source changes meanwhile, or what arrived is not what was
            sent. A later try may succeed, and takes up what is there.
        """
        if self.max_concurrency < 1:
            raise ConfigurationError(f"max_concurrency is {self.max_concurrency}. Give at least 1.")
        how = StagingOptions.parse(options)
        path = local_source(source)
        plan = plan_staging(path, destination_of(destination, path, dandi_path=how.dandi_path))
        with self._store(plan.bucket, how) as store:
            result = publish(store, self._workers(stopped, how), plan, how, owner=owner)
        if not how.dry_run:
            self._report_lineage(plan.source, result)
        return result

    def audit(
        self,
        source: str | os.PathLike[str] | Mapping[str, Any],
        destination: str,
        *,
        dandi_path: bool = False,
        extra_args: Mapping[str, str] | None = None,
        stopped: Event | None = None,
    ) -> AuditReport:
        """
        Compare what was staged earlier with its source, or with its manifest if that is not there any more.

        Nothing is written or read but listings, the manifest, and checksums where an ETag is no MD5.

        :param source: What was given to :meth:`publish`, or what that returned. Of a file that is not there any
            more, only the latter tells what it was.
        :param destination: What was given to :meth:`publish`.
        :param dandi_path: The same.
        :param extra_args: ``ExpectedBucketOwner``.
        :param stopped: When it is set, the audit ends with an error.
        :raises SourceNotFoundError: If nothing tells what should be there.
        """
        how = StagingOptions.parse({"extra_args": dict(extra_args or {})})
        staged = source if isinstance(source, Mapping) and "s3_uri" in source else None
        path = Path(str(staged["source"])) if staged else local_source(source)
        # The address of what was staged is known, whether or not the file is there still, of which it was named.
        named = fixed_part(destination) if staged else None
        place = named or destination_of(destination, path, dandi_path=dandi_path)
        if staged and not str(staged["s3_uri"]).startswith(f"s3://{place.bucket}/{place.prefix}"):
            raise ConfigurationError(
                f"The source was staged to {staged['s3_uri']}, which is not below {destination}. "
                "Correct one of them."
            )
        with self._store(place.bucket, how) as store:
            return audit(store, self._workers(stopped, how), path, place, staged)

    @contextmanager
    def opened(self, bucket: str, key: str) -> Iterator[RemoteFile | RemoteTree]:
        """
        Open an NWB file or Zarr tree where it is; nothing is copied.

        :param key: Of the object; of a tree, what the keys of its objects have in common.
        :raises SourceNotFoundError: If there is neither.
        :raises ConfigurationError: If connection, credentials, rights or bucket are wrong.
        :raises StagingError: If the server fails. A later try may succeed.
        """
        from airflow_provider_ophys.staging.reading import open_remote

        with self._store(bucket, StagingOptions()) as store:
            yield open_remote(store, key)

    def address(self, s3_uri: str) -> str:
        """Give the address at which people find an object: in the AWS console, or at the connection's endpoint."""
        bucket, _, key = s3_uri.removeprefix("s3://").partition("/")
        endpoint = str(self.conn.meta.endpoint_url)
        if (urlsplit(endpoint).hostname or "").endswith(".amazonaws.com"):
            return f"https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={quote(key)}"
        return f"{endpoint.rstrip('/')}/{bucket}/{quote(key)}"

    def _store(self, bucket: str, options: StagingOptions) -> S3Store:
        with explained(self._connection, bucket):
            client = self.conn
        return S3Store(
            client,
            bucket,
            connection=self._connection,
            extra_args=options.extra_args,
            conditional=not options.unsafe_no_conditional,
        )

    def _workers(self, stopped: Event | None, options: StagingOptions) -> TransferThreads:
        return TransferThreads(self.max_concurrency, stopped or Event(), options.memory_limit)

    def _report_lineage(self, source: Path, result: StagingResult) -> None:
        bucket, _, key = result.s3_uri.removeprefix("s3://").partition("/")
        collector = get_hook_lineage_collector()
        collector.add_input_asset(context=self, uri=source.absolute().as_uri())
        collector.add_output_asset(context=self, scheme="s3", asset_kwargs={"bucket": bucket, "key": key})

    @cached_property
    def conn(self) -> Any:
        """A boto3 client whose endpoint was found safe to send data to."""
        client = self._new_client()
        if client is None:
            raise self._malformed_endpoint()
        self._check_endpoint(client.meta.endpoint_url)
        return client

    def _new_client(self) -> Any:
        try:
            return self.get_client_type(region_name=self.region_name)
        except ConfigurationError:
            raise
        except InvalidRegionError as error:
            raise ConfigurationError(f"{self._connection} cannot be used: {error} Correct its region.") from error
        except ValueError:
            # It quotes the endpoint: an error raised here would take a password in that into the log.
            return None

    @cached_property
    def conn_config(self) -> Any:
        """The connection. It must exist: other credentials of this machine could send the data elsewhere."""
        if self.aws_conn_id:
            try:
                self.get_connection(self.aws_conn_id)
            except AirflowNotFoundException as error:
                raise ConfigurationError(
                    f"There is no Airflow connection {self.aws_conn_id!r}. Create it with type 'aws', or set "
                    "aws_conn_id=None to use the credentials of the worker."
                ) from error
        return super().conn_config

    @property
    def config(self) -> Config:
        """The connection's botocore configuration, with bounds where it sets none."""
        # A server that does not answer must not hold a task for ever.
        bounded = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 5})
        # With fewer connections than threads, urllib3 closes and opens them all the time.
        theirs: int = getattr(super().config, "max_pool_connections", 0)
        return bounded.merge(super().config).merge(Config(max_pool_connections=max(self.max_concurrency, theirs)))

    @property
    def _connection(self) -> str:
        return f"The connection {self.aws_conn_id!r}" if self.aws_conn_id else "boto3's default configuration"

    def _check_endpoint(self, endpoint_url: str) -> None:
        # Also where it is no part of the host, as after a slash in a password.
        if "@" in endpoint_url:
            raise ConfigurationError(
                f"{self._connection} has a user or password in its endpoint_url, where it would show up in logs. "
                "Put the access key into login and the secret key into password."
            )
        parts = urlsplit(endpoint_url)
        if parts.scheme not in ("http", "https") or parts.query or parts.fragment or not _has_port(parts):
            raise self._malformed_endpoint()
        if parts.scheme != "https" and not _is_loopback(parts.hostname or "") and not self.allow_insecure_http:
            raise ConfigurationError(
                f"{self._connection} has the endpoint {endpoint_url}, which would carry data and signatures "
                "unencrypted over the network. Use https, or set allow_insecure_http=True if that network is safe."
            )

    def _malformed_endpoint(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self._connection} has an endpoint_url that cannot be used; it is not shown, as secrets may be in "
            "it. Write it as https://host:port, without a user, password, query or fragment."
        )


def _has_port(endpoint: SplitResult) -> bool:
    """Tell whether the port is a number, or left out."""
    try:
        return endpoint.port is None or endpoint.port > 0
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
