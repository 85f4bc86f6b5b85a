"""
One upload in a process of its own, by this package, the AWS CLI or the Amazon provider; prints its cost as JSON.

Runs in two environments, so it imports nothing but the standard library before it knows which.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

Run = Callable[[], dict[str, float]]


def stage_with_ours(source: Path, destination: str) -> Run:
    """Prepare an upload by this package; return what does it, and tells how long that took without its client."""
    from airflow.sdk.lineage import get_hook_lineage_collector

    from airflow_provider_ophys.hooks.s3 import OphysS3Hook

    # Loads all plugins of Airflow, once in a process.
    get_hook_lineage_collector()

    def run() -> dict[str, float]:
        hook = OphysS3Hook()
        assert hook.conn  # noqa: S101 -- makes the client
        begun = time.monotonic()
        result = hook.publish(source, destination, overwrite=True)
        sent = {"uploaded": result.uploaded, "sent_bytes": result.sent_bytes}
        return {"publish_seconds": time.monotonic() - begun, **sent}

    return run


def stage_each_by_boto3(source: Path, destination: str) -> Run:
    """Prepare an upload by this package in which no request is a repetition of another one of boto3's."""
    from airflow_provider_ophys.staging.s3_shortcuts import RepeatedPuts

    # Who remembers no request has none to repeat.
    RepeatedPuts.remembered = lambda _: nullcontext()
    return stage_with_ours(source, destination)


def stage_with_aws(source: Path, destination: str) -> Run:
    """Prepare ``aws s3 cp`` or ``aws s3 sync``; return what does it."""
    from awscli.clidriver import create_clidriver

    driver = create_clidriver()
    how = ["sync", str(source), destination + source.name] if source.is_dir() else ["cp", str(source), destination]

    def run() -> dict[str, float]:
        if status := driver.main(["s3", *how, "--only-show-errors"]):
            raise SystemExit(f"aws s3 ended with {status}")
        return {}

    return run


def stage_with_amazon(source: Path, destination: str) -> Run:
    """Prepare one ``LocalFilesystemToS3Operator`` for each file; return what executes them."""
    from airflow.providers.amazon.aws.transfers.local_to_s3 import LocalFilesystemToS3Operator

    bucket, _, prefix = destination.removeprefix("s3://").partition("/")
    files = sorted(file for file in source.rglob("*") if file.is_file())

    def run() -> dict[str, float]:
        for number, file in enumerate(files):
            LocalFilesystemToS3Operator(
                task_id=f"upload_{number}",
                filename=str(file),
                dest_bucket=bucket,
                dest_key=f"{prefix}{file.relative_to(source.parent)}",
            ).execute({})
        return {}

    return run


PREPARATIONS = {
    "ours": stage_with_ours,
    "each": stage_each_by_boto3,
    "aws": stage_with_aws,
    "amazon": stage_with_amazon,
}


def measure(who: str, source: Path, destination: str) -> dict[str, float]:
    """Run one upload; wall and CPU seconds without the imports, peak memory over that after them."""
    run = PREPARATIONS[who](source, destination)
    # Else what the imports left to it falls on whoever comes next.
    gc.collect()
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.monotonic()
    found = run()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    return {"wall_seconds": wall, "cpu_seconds": cpu, "peak_mib": peak / 1024, **found}


if __name__ == "__main__":
    figures = measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    # Whatever the others print is not the answer: that is the last line.
    print(json.dumps(figures))
