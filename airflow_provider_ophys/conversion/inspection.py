"""What nwbinspector says about a file: whether it keeps to the best practices of NWB, and to DANDI's rules."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from airflow_provider_ophys.conversion.dandi_rules import RULES, run_archive_validation
from airflow_provider_ophys.conversion.storages import Storage, ZarrStorage
from airflow_provider_ophys.exceptions import ConfigurationError, InvalidOutputError
from airflow_provider_ophys.models.result import Finding

log = logging.getLogger(__name__)

Inspect = Literal["report", "fail", "dandi"]

# These two ask for an attribute that arrays of Zarr format 3 do not have, so they fail for every array.
BROKEN_ON_ZARR = frozenset({"check_large_dataset_compression", "check_small_dataset_compression"})

HARMLESS = "BEST_PRACTICE_SUGGESTION"
# What each way to inspect does not accept, of nwbinspector and of dandi-cli.
REFUSED_BY_DANDI = frozenset({"CRITICAL", "ERROR", "PYNWB_VALIDATION"})


def require_inspector() -> None:
    """
    Check that nwbinspector is installed.

    :raises ConfigurationError: If not; says how to install it.
    """
    if find_spec("nwbinspector") is None:
        raise ConfigurationError(
            "inspect needs nwbinspector, which is not installed on this worker. Run: "
            "pip install 'airflow-provider-ophys[inspect]'"
        )


def inspect_file(storage: Storage, path: Path, inspect: Inspect) -> list[Finding]:
    """
    Inspect a file, put what is found in the log and return it, the most important first.

    :param storage: Of the file.
    :param path: Of the file, which need not be published yet.
    :param inspect: ``"fail"`` fails for anything that is more than a suggestion, ``"dandi"`` for what the archive
        would not take.
    :raises InvalidOutputError: If so; lists what was found.
    """
    findings = list(_findings(storage, path, RULES if inspect == "dandi" else None))
    if inspect == "dandi":
        findings += run_archive_validation(path)
    for finding in findings:
        log.log(logging.INFO if finding.importance == HARMLESS else logging.WARNING, "nwbinspector: %s", finding)
    serious = [finding for finding in findings if _is_refused(finding, inspect)]
    if serious:
        listed = "\n".join(f"  {finding}" for finding in serious)
        who = "What DANDI asks for" if inspect == "dandi" else "nwbinspector"
        raise InvalidOutputError(
            f"{who} found {len(serious)} thing(s) to mend, and inspect={inspect!r} says not to accept them. "
            f"Mend the metadata, or write inspect='report':\n{listed}"
        )
    return findings


def _is_refused(finding: Finding, inspect: Inspect) -> bool:
    if inspect == "dandi":
        return finding.importance in REFUSED_BY_DANDI
    return inspect == "fail" and finding.importance != HARMLESS


def _findings(storage: Storage, path: Path, rules: str | None) -> Iterator[Finding]:
    from nwbinspector import inspect_nwbfile_object, load_config

    ignored = list(BROKEN_ON_ZARR) if isinstance(storage, ZarrStorage) else []
    with storage.io(path, "r") as io:
        config = None if rules is None else load_config(rules)
        found = inspect_nwbfile_object(io.read(), ignore=ignored, config=config)
        messages: list[Any] = [message for message in found if message is not None]
    for message in sorted(messages, key=lambda message: -message.importance.value):
        yield Finding(
            importance=message.importance.name,
            check=message.check_function_name,
            message=str(message.message),
            location=f"{message.location or ''}",
        )
