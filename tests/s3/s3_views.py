"""What is really in the bucket, and what a hook asks of it."""

from __future__ import annotations

import io
import itertools
import threading
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from demo.s3_server import S3Server


class Place:
    """A prefix of the bucket, and what is really there, seen through a client that is not the hook's."""

    def __init__(self, server: S3Server, client: Any) -> None:
        self.bucket = server.bucket
        self.prefix = f"{uuid.uuid4().hex}/"
        self.client = client

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def listing(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return [entry["Key"].removeprefix(self.prefix) for page in pages for entry in page.get("Contents", ())]

    def contents(self) -> dict[str, bytes]:
        return {name: self.content(name) for name in self.listing()}

    def content(self, name: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(
            Bucket=self.bucket, Key=self.prefix + name, Body=content, ChecksumAlgorithm="CRC64NVME"
        )

    def head(self, name: str) -> dict[str, Any]:
        return self.client.head_object(Bucket=self.bucket, Key=self.prefix + name, ChecksumMode="ENABLED")

    def open_uploads(self) -> list[dict[str, Any]]:
        listing = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        return listing.get("Uploads", [])


class Requests:
    """
    The requests that a hook makes, through boto3 or as repetitions of boto3's: counted, and opportunities to
    interfere.
    """

    def __init__(self, hook: OphysS3Hook) -> None:
        self.made: list[tuple[str, str]] = []
        self.repeated = 0
        self._before: list[Callable[[str, dict[str, Any]], None]] = []
        self._after: list[Callable[[str, str], None]] = []
        self._in_boto3 = threading.local()
        self._connections = hook.conn._endpoint.http_session
        events = hook.conn.meta.events
        events.register("before-call.s3", self._begin)
        events.register("before-send.s3.PutObject", self._repeat)
        events.register("after-call.s3", self._end)
        events.register("after-call-error.s3", self._give_up)

    def _begin(self, model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        self._in_boto3.now = True
        context["test_path"] = params["url_path"]
        self._note(model.name, params)

    def _end(self, model: Any, context: dict[str, Any], **_: Any) -> None:
        self._in_boto3.now = False
        for act in self._after:
            act(model.name, context["test_path"])

    def _give_up(self, **_: Any) -> None:
        self._in_boto3.now = False

    def _repeat(self, request: Any, **_: Any) -> Any:
        """Send what is no call of boto3's."""
        if getattr(self._in_boto3, "now", False):
            return None
        self.repeated += 1
        path = urlsplit(request.url).path
        self._note("PutObject", {"url_path": path, "headers": request.headers, "body": io.BytesIO(request.body)})
        answer = self._connections.send(request)
        for act in self._after:
            act("PutObject", path)
        return answer

    def _note(self, operation: str, params: dict[str, Any]) -> None:
        self.made.append((operation, params["url_path"]))
        for act in self._before:
            act(operation, params)

    def count(self, operation: str) -> int:
        """Count requests for the data; manifest, lease and the like are not counted."""
        return sum(name == operation and _is_data(path) for name, path in self.made)

    def before(
        self, operation: str, action: Callable[[int, dict[str, Any]], object], *, data: bool = True
    ) -> None:
        """
        Call ``action(number, request)`` before each request of that kind; numbers count from 1.

        :param data: Whether for the data, or for manifest, lease and the like.
        """

        numbers = itertools.count(1)

        def act(name: str, params: dict[str, Any]) -> None:
            if name == operation and _is_data(params["url_path"]) == data:
                action(next(numbers), params)

        self._before.append(act)

    def after(self, operation: str, action: Callable[[int], object], *, data: bool = True) -> None:
        """Call ``action(number)`` after each request of that kind, when the server has answered."""

        numbers = itertools.count(1)

        def act(name: str, path: str) -> None:
            if name == operation and _is_data(path) == data:
                action(next(numbers))

        self._after.append(act)


def _is_data(path: str) -> bool:
    return not path.partition("?")[0].endswith((".manifest.json", ".lock", ".probe", "/latest.json"))
