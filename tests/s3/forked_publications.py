"""A publication, in a process that can be killed at any moment."""

from __future__ import annotations

from typing import Any

from airflow_provider_ophys.hooks.s3 import OphysS3Hook


def publish(threads: int = 16, **arguments: Any) -> int:
    """
    Publish as ``OphysS3Hook.publish`` does.

    :param threads: The hook's ``max_concurrency``.
    :param arguments: Those of ``publish``.
    :returns: The exit code of its process.
    """
    OphysS3Hook(max_concurrency=threads).publish(**arguments)
    return 0
