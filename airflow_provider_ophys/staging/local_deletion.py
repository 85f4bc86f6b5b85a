"""Removing a local file or tree that has just been confirmed to be in the bucket, and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from uuid import uuid4

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging.files import Fingerprint, SourceFile
from airflow_provider_ophys.staging.plan import StagingPlan, is_current, is_litter

log = logging.getLogger(__name__)


def delete_source(plan: StagingPlan) -> None:
    """
    Delete the files of a plan.

    The source is renamed first: nobody meets a part of a tree, even if this is interrupted, and nobody opens by
    its path what is about to be deleted. What is no part of a tree was not staged, and stays under that name.

    :raises StagingError: If anything in it changed since the plan was made, or cannot be deleted.
    """
    if not is_current(plan):
        raise _changed(plan, "nothing of it was deleted")
    aside = plan.source.with_name(f".{plan.source.name}.staged-{uuid4().hex[:8]}")
    try:
        plan.source.rename(aside)
        left = _delete_tree(plan, aside) if plan.is_tree else _delete_single(plan, aside)
    except OSError as error:
        if isinstance(error, StagingError):
            raise
        raise StagingError(
            f"{plan.source} is staged at {plan.s3_uri}, but could not be deleted ({error.strerror}). Delete it "
            f"yourself, also what may be left at {aside}."
        ) from error
    log.info("Deleted %s, which is staged at %s.", plan.source, plan.s3_uri)
    if left:
        log.warning("Left what is no part of it, and so was not staged: %s", ", ".join(map(str, left)))


def _delete_tree(plan: StagingPlan, aside: Path) -> list[Path]:
    """Delete the files of a tree, and what folders that leaves empty; return what is no part of it."""
    for file in plan.files:
        path = aside / file.path.relative_to(plan.source)
        if not _delete_unchanged(file, path):
            raise _changed(plan, f"{path} was left")
    left = _remove_empty_folders(aside)
    if others := [path for path in left if not is_litter(path)]:
        raise _changed(plan, f"{others[0]} was left")
    return left


def _delete_single(plan: StagingPlan, aside: Path) -> list[Path]:
    if _delete_unchanged(plan.files[0], aside):
        return []
    try:
        # Unlike renaming, this replaces nothing that somebody may have put there.
        plan.source.hardlink_to(aside)
        aside.unlink()
    except OSError:
        raise _changed(plan, f"it is now {aside}") from None
    raise _changed(plan, "it was not deleted")


def _delete_unchanged(file: SourceFile, path: Path) -> bool:
    """Delete a file if it still is what was staged at this very moment; tell whether it was."""
    if Fingerprint.of(path.lstat()) != file.fingerprint:
        return False
    path.unlink()
    return True


def _remove_empty_folders(folder: Path) -> list[Path]:
    """Remove a folder and those in it as far as they are empty; return what is left."""
    left: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and not is_litter(path):
            left += _remove_empty_folders(path)
        else:
            left.append(path)
    if not left:
        folder.rmdir()
    return left


def _changed(plan: StagingPlan, left: str) -> StagingError:
    return StagingError(
        f"{plan.source} is staged at {plan.s3_uri}, and changed since; {left}. Look what writes to it, and stage "
        "it again."
    )
