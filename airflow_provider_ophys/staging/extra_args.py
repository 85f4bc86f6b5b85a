"""What users may add to the requests: encryption, tags and the like, from a list of what is known to be safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# No keys of the customer's own: they would be secrets in options. No metadata: S3 compares none of it.
ALLOWED = frozenset(
    {"ACL", "ExpectedBucketOwner", "SSEKMSKeyId", "ServerSideEncryption", "StorageClass", "Tagging"}
)
_EVERYWHERE = "ExpectedBucketOwner"
_CREATING = frozenset({"PutObject", "CreateMultipartUpload"})


@contextmanager
def carried(client: Any, extra_args: Mapping[str, str]) -> Iterator[None]:
    """
    Let every request of a boto3 client that makes an object carry them, manifest and lease included.

    The expected owner of the bucket goes with all requests, so that nothing is read from a stranger's either.
    """

    def add(params: dict[str, Any], model: Any, **_: Any) -> None:
        creates, members = model.name in _CREATING, model.input_shape.members
        names = [name for name in extra_args if creates or (name == _EVERYWHERE and name in members)]
        params.update({name: extra_args[name] for name in names})

    client.meta.events.register("provide-client-params.s3", add)
    try:
        yield
    finally:
        client.meta.events.unregister("provide-client-params.s3", add)
