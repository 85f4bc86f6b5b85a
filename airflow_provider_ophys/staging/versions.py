"""
The versioned layout: every content has a place of its own, and one small object names the newest.

``<name>/<digest>/<name>`` is a version, with the first 16 hexadecimal digits of its digest, and never changes.
``<name>/latest.json`` is switched from one to the next in a single request: readers follow it and never meet a
version that is not whole.
"""

from __future__ import annotations

import base64
import json
import re

from airflow_provider_ophys.exceptions import OutputBusyError, StagingConflictError
from airflow_provider_ophys.staging.manifest import SUFFIX
from airflow_provider_ophys.staging.plan import StagingPlan
from airflow_provider_ophys.staging.store import Document, Store, write_document

POINTER = "latest.json"
_DIGITS = 16


def version_of(plan: StagingPlan, digest: str) -> StagingPlan:
    """Give a plan the keys of the version with this digest."""
    kind, _, value = digest.partition(":")
    # Of a file it is written as S3 writes it, in base64, which does not suit a key.
    digits = base64.b64decode(value).hex() if kind == "crc64nvme" else value
    return plan.moved(f"{plan.key}/{digits[:_DIGITS]}/{plan.name}")


def holds_versions(plan: StagingPlan, keys: set[str]) -> bool:
    """Tell whether some keys below that of a plan are versions, which must not be taken for parts of a tree."""
    key, name = re.escape(plan.key), re.escape(plan.name)
    version = re.compile(rf"{key}/([0-9a-f]{{{_DIGITS}}}/{name}([/.]|$)|{POINTER}$)")
    return any(version.match(key) for key in keys)


class Pointer:
    """
    What names the newest version.

    :param store: Where it is kept.
    :param plan: What is staged, with the key of its name.
    """

    def __init__(self, store: Store, plan: StagingPlan) -> None:
        self.store = store
        self.plan = plan
        self.key = f"{plan.key}/{POINTER}"
        self._before: Document | None = None

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.store.uri(self.key)

    def look(self) -> None:
        """
        See what it names before a version is made; only that may it be switched from.

        :raises StagingConflictError: If there is no room for versions.
        """
        if self.store.get(f"{self.plan.key}{SUFFIX}"):
            raise StagingConflictError(
                f"At {self.plan.s3_uri} is a tree that was staged in place, and versions cannot be kept inside "
                "it. Choose another destination, or move that tree away."
            )
        self._before = self.store.get(self.key)

    def switch(self, version: StagingPlan, digest: str) -> None:
        """
        Let it name another version.

        :raises OutputBusyError: If another writer switched it meanwhile.
        """
        named = {"digest": digest, "key": version.key, "s3_uri": version.s3_uri}
        content = json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if self._before and self._before.content == content:
            return
        if write_document(self.store, self.key, content, replaced=self._before) is None:
            raise OutputBusyError(
                f"Another writer made another version the latest one in {self.uri} while this one was staged. "
                f"This version is at {version.s3_uri}. Try again to make it the latest."
            )
