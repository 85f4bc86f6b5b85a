"""
The digests of files that were read before, so that an unchanged output need not be read again to be compared.

They are kept beside the output, in ``.<name>.digests.json``, with what tells that a file is the same: inode, size,
and the times of its content and of its inode, of which nobody can set the latter. They only spare reading: what
does not fit what is in the store is read before anything follows from it.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from airflow_provider_ophys.staging.checksums import Digest, read_crc64nvme
from airflow_provider_ophys.staging.files import SourceFile
from airflow_provider_ophys.staging.plan import StagingPlan

log = logging.getLogger(__name__)

FORMAT = "airflow-provider-ophys digests 1"
# What was written to so shortly before it was looked at may be written to again without getting another time:
# where times have fractions of a second, and where they are counted in seconds or two.
FINE_NS, COARSE_NS = 10**8, 2 * 10**9
SECOND_NS = 10**9
MOST_PLACES = 4


@dataclass
class KnownDigests:
    """
    What is known of the files of a plan.

    :param plan: Of what is staged, as it was made from the disk.
    :param digests: By path, of the files that have not changed since they were read.
    :param places: Where all of it, as it is, was staged before: URIs, the newest first.
    """

    plan: StagingPlan
    digests: dict[Path, Digest] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, plan: StagingPlan) -> Self:
        """Read what was kept; nothing is known if that is not there, or anything else."""
        known = cls(plan)
        try:
            content = json.loads(_read_regular(_record_of(plan.source)))
            if content["format"] == FORMAT:
                files = {file: content["files"].get(_name(plan, file)) for file in plan.files}
                known.digests = {file.path: Digest(*kept[1:]) for file, kept in files.items() if _fits(file, kept)}
                unchanged = len(known.digests) == len(plan.files)
                known.places = list(map(str, content["places"])) if unchanged else []
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return cls(plan)
        return known

    def keep(self, digests: Mapping[Path, Digest], place: str) -> None:
        """
        Keep digests for the next time, where the folder can be written to.

        :param digests: By path.
        :param place: Where all of it is now.
        """
        places = [place, *(other for other in self.places if other != place)][:MOST_PLACES]
        if digests == self.digests and places == self.places:
            return
        record = _record_of(self.plan.source)
        unfinished = record.with_name(f"{record.name}.{os.getpid()}")
        try:
            # Of a killed process with this number.
            unfinished.unlink(missing_ok=True)
            with unfinished.open("x", encoding="utf-8") as stream:
                # By the clock of whoever gives the files their times.
                skew = os.fstat(stream.fileno()).st_mtime_ns - time.time_ns()
                files = self._described(digests, self.plan.began_ns + skew)
                json.dump({"format": FORMAT, "places": places, "files": files}, stream)
            if files:
                unfinished.replace(record)
            else:
                unfinished.unlink()
        except OSError as error:
            log.info("The digests of %s were not kept, so it is read again next time: %s", self.plan.source, error)
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what was kept: what it is of is gone."""
        with suppress(OSError):
            _record_of(self.plan.source).unlink(missing_ok=True)

    def _described(self, digests: Mapping[Path, Digest], began_ns: int) -> dict[str, Any]:
        described = {}
        for file in self.plan.files:
            times = file.fingerprint.modified_ns, file.changed_ns
            margin = FINE_NS if all(time_ns % SECOND_NS for time_ns in times) else COARSE_NS
            if max(times) < began_ns - margin and (digest := digests.get(file.path)):
                described[_name(self.plan, file)] = [_state(file), digest.crc64nvme, digest.etag]
        return described


def _record_of(source: Path) -> Path:
    return source.with_name(f".{source.name}.digests.json")


def _read_regular(path: Path) -> bytes:
    """Read a file; neither a link nor a pipe that somebody put there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no file")
        return stream.read()


def _name(plan: StagingPlan, file: SourceFile) -> str:
    return file.path.relative_to(plan.source).as_posix()


def _state(file: SourceFile) -> list[int]:
    # Not the device: it has another number on each client of a share.
    return [*file.fingerprint[1:], file.changed_ns]


def _fits(file: SourceFile, kept: Any) -> bool:
    if not kept or kept[0] != _state(file) or not isinstance(kept[2], str):
        return False
    read_crc64nvme(kept[1])
    # A client of a share may have told old times; opening a file asks for those of this moment.
    with file.opened() as descriptor:
        return os.fstat(descriptor).st_ctime_ns == file.changed_ns
