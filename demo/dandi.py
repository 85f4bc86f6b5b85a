"""Whether the DANDI archive would take what was staged: dandi-cli validates the files that the bucket gives."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_ophys.staging.naming import destination_of
from demo.s3_server import S3Server

SECONDS = 300
CLEAN = "No errors found."
DANDISET = "identifier: '000000'\nname: What the demonstration staged\n"


class DandiError(RuntimeError):
    """Something was found that keeps a staged file from the archive, or that its curators would ask about."""


def validate_staged(uris: Iterable[str], server: S3Server, folder: Path, command: Path) -> str:
    """
    Fetch staged HDF5 files into a Dandiset, under the names of the archive, and have dandi-cli validate it.

    :param uris: Where they were staged.
    :param server: That has them.
    :param folder: Of the Dandiset, created.
    :param command: dandi-cli's executable.
    :returns: What was validated, and what dandi-cli said.
    :raises DandiError: If it found anything.
    """
    folder.mkdir()
    (folder / "dandiset.yaml").write_text(DANDISET)
    files = [_fetch(uri, server, folder) for uri in uris]
    return f"dandi validate of {', '.join(file.name for file in files)}: {validate(folder, command)}"


def validate(dandiset: Path, command: Path) -> str:
    """
    Have dandi-cli validate a Dandiset.

    :returns: What it said.
    :raises DandiError: If it found anything, be it a warning, of which its exit code says nothing.
    """
    ran = subprocess.run(
        [command, "validate", dandiset],
        # Not to ask the archive for newer versions of itself.
        env={**os.environ, "DANDI_NO_ET": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    said = ran.stdout.strip()
    if ran.returncode != 0 or said != CLEAN:
        raise DandiError(
            f"{command} validate {dandiset} ended with {ran.returncode}:\n{said or ran.stderr[-2000:]}"
        )
    return said


def _fetch(uri: str, server: S3Server, folder: Path) -> Path:
    place, fetched = urlsplit(uri), folder / "fetched.nwb"
    server.client().download_file(place.netloc, place.path.strip("/"), str(fetched))
    named = destination_of(f"s3://{server.bucket}/", fetched, dandi_path=True)
    file = folder / named.prefix / str(named.name)
    file.parent.mkdir(exist_ok=True)
    return Path(shutil.move(fetched, file))
