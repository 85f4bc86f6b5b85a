"""
What lies in S3, through the connection that staged it.

What a task says of it is in XCom, where people may edit it. So nothing is given but what the record beside a
report, which only who may write there can write, says that the task has made or staged.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sqlalchemy.orm import Session

from airflow_provider_ophys.compat import conf
from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.result import REPORT_SUFFIXES
from airflow_provider_ophys.plugin.access import team_of
from airflow_provider_ophys.plugin.files import LARGEST, S3, Kind, Policy, ReportNotServedError, check_proof
from airflow_provider_ophys.plugin.task_notes import note_of
from airflow_provider_ophys.plugin.tasks import TaskKey
from airflow_provider_ophys.report.origin import MOST_BYTES, ORIGIN_SUFFIX, Maker, ReportOrigin, record_name
from airflow_provider_ophys.settings import allowed_roots, report_roots

# How long an address opens an object.
SECONDS = 3600
NEUROSIFT = "https://neurosift.app/nwb?url="


def read_object(uri: str, kind: Kind, maker: Maker, aws_conn_id: str) -> bytes:
    """
    Read a file of a report in S3.

    :param uri: Where a task says that it is.
    :param maker: The task.
    :param aws_conn_id: The connection by which it was staged.
    :raises ReportNotServedError: When it is not there, or nothing proves that the task made it.
    """
    folder, _, name = uri.rpartition("/")
    try:
        record = f"{folder}/{record_name(name, kind)}"
    except ValueError:
        raise ReportNotServedError("What is there is no report.") from None
    client = _client(aws_conn_id)
    proof = _get(client, record, MOST_BYTES)
    origin = ReportOrigin.read(proof)
    # What is not this task's is not even read.
    if origin is None or maker not in origin.makers:
        check_proof(b"", kind, b"", maker)
    content = _get(client, uri, LARGEST)
    check_proof(proof, kind, content, maker)
    return content


def address(session: Session, task: TaskKey, *, neurosift: bool = False) -> str:
    """
    Give an address that opens what a task staged, for an hour and for whoever has it.

    :param neurosift: That of Neurosift with the file in it, if ``[ophys] neurosift`` allows it.
    :raises ReportNotServedError: When nothing proves that the task staged it.
    """
    note = note_of(session, task)
    if note is None or not note.s3_uri or not note.aws_conn_id:
        raise ReportNotServedError("This task staged nothing.")
    if neurosift and not neurosift_allowed():
        raise ReportNotServedError("Neurosift is not turned on: an administrator can set [ophys] neurosift.")
    maker = Maker(task.dag_id, task.task_id)
    Policy(allowed_roots(), report_roots()).check_object(note.s3_uri, maker, team_of(task.dag_id))
    client = _client(note.aws_conn_id)
    origin = ReportOrigin.read(_get(client, f"{note.s3_uri}{ORIGIN_SUFFIX}", MOST_BYTES))
    if origin is None or maker not in origin.makers:
        raise ReportNotServedError("No record beside it says that this task staged it.")
    signed = _sign(client, note.s3_uri)
    return f"{NEUROSIFT}{quote(signed, safe='')}" if neurosift else signed


def neurosift_allowed() -> bool:
    """Tell whether staged files may be opened in Neurosift, which is given an address that opens them."""
    return bool(conf.getboolean("ophys", "neurosift", fallback=False))


def _sign(client: Any, uri: str) -> str:
    """Sign an address; of a tree, that of its report."""
    bucket, key = _split(uri)
    if uri.endswith(".zarr"):
        key += REPORT_SUFFIXES["html"]
    signed: str = client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=SECONDS
    )
    return signed


def _client(aws_conn_id: str) -> Any:
    from airflow_provider_ophys.hooks.s3 import OphysS3Hook

    return OphysS3Hook(aws_conn_id).conn


def _get(client: Any, uri: str, most: int) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = _split(uri)
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            if answer["ContentLength"] > most:
                raise ReportNotServedError("What is there is no report.")
            content: bytes = body.read(most)
    except ClientError as error:
        # Whether something else is there is nobody's business.
        raise ReportNotServedError("It is not in S3, or its record is not, or may not be read there.") from error
    except BotoCoreError as error:
        raise ReportNotServedError(f"S3 does not answer: {type(error).__name__}.") from error
    return content


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not bucket or not key:
        raise ConfigurationError(f"{uri!r} is no address in S3.")
    return bucket, key
