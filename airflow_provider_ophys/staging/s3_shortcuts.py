"""
The same requests in less of the processor's time, for trees of many small objects.

For each object anew boto3 finds out what is the same for all objects of a tree: endpoint, encryption, tags, names
of headers. That takes almost half of the processor time of a small upload (1.7 ms and not 0.9, in which no other
thread runs Python code). Here the first request is remembered as it is before it is signed; the next ones repeat
it with their own key, content, checksum and condition, signed by the same signer and sent over the same
connections. Whatever is not answered with success is left to boto3, with its retries, redirects and errors, and
the request that it then makes is remembered instead.

Of a listing, boto3 takes most of the time to parse dates, owners and storage classes of every entry.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree as ET

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.hooks import first_non_none_response

_CHECKSUM = "x-amz-checksum-crc64nvme"
_CONDITIONS = {"IfNoneMatch": "If-None-Match", "IfMatch": "If-Match"}
_LISTED = "before-parse.s3.ListObjectsV2"
# What belongs to one request alone: boto3 numbers its tries, and waits before it sends a big body.
_OF_ONE_REQUEST = {
    *(header.lower() for header in (_CHECKSUM, *_CONDITIONS.values())),
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "expect",
}
# The first holds the content of the request.
_OF_ONE_CALL = {"s3_redirect", "retries", "timestamp"}


class _Remembered(NamedTuple):
    """
    What all requests have in common.

    :param url: Up to the key.
    :param context: What the signer goes by.
    """

    url: str
    headers: dict[str, str]
    context: dict[str, Any]
    signer: Any


class RepeatedPuts:
    """
    ``PutObject`` requests of one bucket.

    :param client: A boto3 S3 client.
    :param common: The arguments that all have in common: ``Bucket``, and what else each carries.
    """

    def __init__(self, client: Any, common: Mapping[str, str]) -> None:
        self._client = client
        self._common = common
        self._events = client.meta.events
        # botocore has no public way to its connections; without them, boto3 makes all requests.
        self._connections: Any = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._remembered: _Remembered | None = None
        self._made_here = threading.local()

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Watch the requests that boto3 makes meanwhile."""
        self._events.register("before-sign.s3.PutObject", self._remember)
        try:
            yield
        finally:
            self._events.unregister("before-sign.s3.PutObject", self._remember)

    def put(self, key: str, content: bytes, crc64nvme: str, condition: Mapping[str, str]) -> Any:
        """
        Store a small object.

        :param condition: ``IfNoneMatch`` or ``IfMatch``, or none.
        :return: What boto3 would answer: ``ETag``, and ``ChecksumCRC64NVME`` if the server confirms it.
        :raises botocore.exceptions.ClientError: If the server refuses it.
        """
        answer = self._repeat(key, content, crc64nvme, condition)
        if answer is not None:
            return answer
        self._made_here.key = key
        try:
            return self._client.put_object(
                Key=key, Body=content, ChecksumCRC64NVME=crc64nvme, **self._common, **condition
            )
        finally:
            self._made_here.key = None

    def _remember(self, request: Any, request_signer: Any, **_: Any) -> None:
        key = getattr(self._made_here, "key", None)
        if key is None or self._connections is None or not request.url.endswith(f"/{_quoted(key)}"):
            return
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_REQUEST}
        context = {name: value for name, value in request.context.items() if name not in _OF_ONE_CALL}
        url = request.url.removesuffix(_quoted(key))
        self._remembered = _Remembered(url, headers, context, request_signer)

    def _repeat(
        self, key: str, content: bytes, crc64nvme: str, condition: Mapping[str, str]
    ) -> dict[str, str] | None:
        common = self._remembered
        if common is None or not content:
            return None
        headers = {_CHECKSUM: crc64nvme} | {_CONDITIONS[name]: value for name, value in condition.items()}
        request = AWSRequest("PUT", common.url + _quoted(key), common.headers | headers, content)
        request.context.update(common.context)
        try:
            common.signer.sign("PutObject", request)
            prepared = request.prepare()
            # Whoever watches or answers boto3's requests does so with these.
            answer = first_non_none_response(self._events.emit("before-send.s3.PutObject", request=prepared))
            answer = answer or self._connections.send(prepared)
        except BotoCoreError:
            answer = None
        if answer is None or answer.status_code != HTTPStatus.OK:
            self._remembered = None
            return None
        return {"ETag": answer.headers.get("ETag", ""), "ChecksumCRC64NVME": answer.headers.get(_CHECKSUM, "")}


def _quoted(key: str) -> str:
    return quote(key, safe="/~")


@contextmanager
def short_listings(client: Any) -> Iterator[None]:
    """Let ``list_objects_v2`` of a boto3 client give only ``Key``, ``Size`` and ``ETag`` of each object."""
    client.meta.events.register(_LISTED, _read_entries)
    try:
        yield
    finally:
        client.meta.events.unregister(_LISTED, _read_entries)


def _read_entries(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take the entries out of an answer, before botocore parses the rest of it."""
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    try:
        listing = ET.fromstring(response_dict["body"])  # noqa: S314 -- as botocore does, which would read it next
        namespace = listing.tag[: listing.tag.rfind("}") + 1]
        entries = [_entry(element, namespace) for element in listing.iterfind(f"{namespace}Contents")]
    except (ET.ParseError, ValueError):
        return  # botocore says what is wrong with it
    listing[:] = [element for element in listing if element.tag != f"{namespace}Contents"]
    response_dict["body"] = ET.tostring(listing)
    customized_response_dict["Contents"] = entries


def _entry(element: ET.Element, namespace: str) -> dict[str, Any]:
    key, size = element.findtext(f"{namespace}Key"), element.findtext(f"{namespace}Size")
    if not key or not size:
        raise ValueError("an entry without a name or a size")
    return {"Key": key, "Size": int(size), "ETag": element.findtext(f"{namespace}ETag", "")}
