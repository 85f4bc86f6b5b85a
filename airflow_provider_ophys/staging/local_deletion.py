"""Removing a local file or tree that has just been confirmed to be in the bucket, and nothing else."""

from __future__ import annotations

import logging
from uuid import uuid4

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging.files import Fingerprint
from airflow_provider_ophys.staging.plan import StagingPlan, is_current

log = logging.getLogger(__name__)


def delete_source(plan: StagingPlan) -> None:
    """
    Delete the files of a plan.

    A tree is renamed first, so that nobody meets a part of it, even if this is interrupted.

    :raises StagingError: If anything in it changed since the plan was made, or cannot be deleted.
    """
    if not is_current(plan):
        raise StagingError(
            f"{plan.source} is staged at {plan.s3_uri}, and changed since; nothing of it was deleted. "
            "Stage it again."
        )
    try:
        if plan.is_tree:
            _delete_tree(plan)
        else:
            plan.source.unlink()
    except OSError as error:
        raise StagingError(
            f"{plan.source} is staged at {plan.s3_uri}, but could not be deleted ({error.strerror}). Delete it "
            f"yourself, also what may be left at {plan.source.parent}/.{plan.source.name}.staged-*."
        ) from error
    log.info("Deleted %s, which is staged at %s.", plan.source, plan.s3_uri)


def _delete_tree(plan: StagingPlan) -> None:
    aside = plan.source.rename(plan.source.with_name(f".{plan.source.name}.staged-{uuid4().hex[:8]}"))
    for file in plan.files:
        path = aside / file.path.relative_to(plan.source)
        if Fingerprint.of(path.lstat()) != file.fingerprint:
            raise StagingError(f"{path} changed while its tree was deleted; it was left. Look what writes to it.")
        path.unlink()
    # A folder in which something new appeared is not empty, and stays.
    for folder in sorted((path for path in aside.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    aside.rmdir()
