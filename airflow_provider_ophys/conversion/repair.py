"""Put in order what killed tasks left of an output, by hand; conversions and readers do it by themselves."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from airflow_provider_ophys.conversion.publishing import part_of, sole_writer
from airflow_provider_ophys.conversion.replacing import Kept, check_replaceable
from airflow_provider_ophys.exceptions import OutputExistsError, SourceNotFoundError
from airflow_provider_ophys.writing.replacement import followed, is_settled


def repair(path: Path) -> list[str]:
    """
    Finish or take back a replacement of an output that was interrupted, and remove what a killed writer left.

    What may still be needed stays: an old output that was moved aside, if no journal names it.

    :param path: Of the output, whether or not there is one at this moment. Links are followed.
    :returns: What was done and what was found, one sentence each; none if all is well.
    :raises OutputBusyError: If a task is writing the output.
    :raises OutputFolderError: If what is there may not be changed by this user.
    :raises SourceNotFoundError: If there is neither an output nor anything left of one.
    """
    path = followed(path)
    told = []
    was_there, was_settled, had_part = os.path.lexists(path), is_settled(path), os.path.lexists(part_of(path))
    pattern = f".{glob.escape(path.name)}.old*"
    if not was_there and was_settled and not had_part and not list(path.parent.glob(pattern)):
        raise SourceNotFoundError(f"There is no NWB file at {path}, and nothing is left of one. Check the path.")
    with sole_writer(path):
        if not was_settled:
            told.append(f"{path}: a replacement that was interrupted is finished, or taken back.")
        if had_part and was_settled:
            told.append(f"{path}: what a killed task had written of a new output is removed.")
        if not os.path.lexists(path):
            told.append(f"{path}: there is no output.")
        told.extend(
            f"{aside}: an old output is still there. Delete it if {path} has all that you want."
            for aside in sorted(path.parent.glob(pattern))
        )
    return told + _damage(path)


def _damage(path: Path) -> list[str]:
    try:
        if os.path.lexists(path):
            check_replaceable(path, Kept())
    except OutputExistsError as error:
        return [str(error)]
    return []
