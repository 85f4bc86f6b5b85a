"""
What the DANDI archive asks of a file: before a pixel is read, of subject and session; of the finished file, all.

The rules are those of dandi-cli 0.81, which are nwbinspector's with the configuration ``dandi``. dandi-cli itself
cannot be installed beside this package, because it needs zarr before 3.2; an executable ``dandi`` of another
environment is run if it is found.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pynwb import NWBFile

from airflow_provider_ophys.conversion.storages import Storage, ZarrStorage
from airflow_provider_ophys.exceptions import ConfigurationError, InvalidOutputError, MetadataError
from airflow_provider_ophys.models.result import Finding

log = logging.getLogger(__name__)

RULES = "dandi"
COMMAND = "dandi"
# It imports much, and reads the structure of the file.
SECONDS = 600

# Where the answer to a rule is written, and an example of one.
ANSWERS = {
    "check_subject_exists": "Subject: {subject_id: m1, species: Mus musculus, sex: F, age: P90D}",
    "check_subject_id_exists": "Subject.subject_id, for example m1",
    "check_subject_id_no_slashes": "Subject.subject_id, for example m-1",
    "check_subject_sex": "Subject.sex: M, F, O or U",
    "check_subject_species_exists": "Subject.species, for example Mus musculus",
    "check_subject_species_form": "Subject.species, for example Mus musculus",
    "check_subject_age": "Subject.age, for example P90D, or Subject.date_of_birth",
    "check_subject_proper_age_range": "Subject.age, for example P90D/P120D",
    "check_session_id_no_slashes": "NWBFile.session_id, for example a-1",
}


def check_for_archive(nwbfile: NWBFile, storage: Storage) -> None:
    """
    Check what the archive needs of subject and session, without reading data.

    :param nwbfile: In memory, as it will be written.
    :raises ConfigurationError: If it becomes a Zarr store, which the archive does not take.
    :raises MetadataError: If something is missing or has another form; names every field.
    """
    if find_spec("nwbinspector") is None:
        return  # Which is told already.
    from nwbinspector import configure_checks, load_config, run_checks

    if isinstance(storage, ZarrStorage):
        raise ConfigurationError(
            "inspect='dandi' is for HDF5: dandi-cli 0.81 refuses the texts in stores of Zarr's format 3. Write "
            "backend='hdf5', and a path that ends in .nwb."
        )
    rules = load_config(RULES)
    checks = [check for check in configure_checks(config=rules) if check.__name__ in ANSWERS]
    found = {str(message.check_function_name): str(message.message) for message in run_checks(nwbfile, checks)}
    if found:
        listed = "\n".join(f"  {message} Write {ANSWERS[check]}." for check, message in found.items())
        raise MetadataError(f"The DANDI archive would not take the file ({len(found)} problem(s)):\n{listed}")


def run_archive_validation(path: Path) -> Iterator[Finding]:
    """
    Have dandi-cli validate a file, if it is found on PATH; yield what nwbinspector does not say too.

    :param path: Of an HDF5 file, whatever its name.
    :raises InvalidOutputError: If it fails otherwise than by what it finds.
    """
    command = shutil.which(COMMAND)
    if command is None:
        log.info("There is no dandi on PATH, so nwbinspector alone was asked, with the rules of DANDI.")
        return
    with tempfile.TemporaryDirectory() as folder:
        # It validates what is in a Dandiset, by names of its own.
        (Path(folder) / "dandiset.yaml").write_text("identifier: '000000'\nname: One file\n")
        found, link = Path(folder) / "found.json", Path(folder) / "sub-1" / "sub-1.nwb"
        link.parent.mkdir()
        link.symlink_to(path)
        arguments = [command, "validate", "--format", "json", "--output", str(found), str(link)]
        # Not to ask the archive for newer versions of itself.
        environment = {**os.environ, "DANDI_NO_ET": "1"}
        ran = subprocess.run(  # noqa: S603 - the administrator's executable, on a path that we made
            arguments, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if not found.exists():
            raise InvalidOutputError(
                f"{command} validate ended with {ran.returncode} and told nothing: {ran.stderr.strip()[-500:]}. "
                "Mend its environment, or take it from PATH."
            )
        problems: list[dict[str, Any]] = json.loads(found.read_text() or "[]")
    for problem in problems:
        is_of_file = Path(problem.get("path") or link).name == link.name
        if is_of_file and not problem["id"].startswith("NWBI."):
            places = (problem.get("within_asset_paths") or {}).values()
            yield Finding(
                importance=problem["severity"] or "ERROR",
                check=problem["id"],
                message=str(problem["message"]),
                location=", ".join(map(str, places)),
            )
