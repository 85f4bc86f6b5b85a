"""
Listings without what staging does not compare.

boto3 takes most of the time of a listing to parse dates, owners and storage classes of every entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree as ET

_EVENT = "before-parse.s3.ListObjectsV2"


@contextmanager
def short_listings(client: Any) -> Iterator[None]:
    """Let ``list_objects_v2`` of a boto3 client give only ``Key``, ``Size`` and ``ETag`` of each object."""
    client.meta.events.register(_EVENT, _read_entries)
    try:
        yield
    finally:
        client.meta.events.unregister(_EVENT, _read_entries)


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
