"""How much time has passed between two processes, on machines whose clocks somebody may set."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Moment(TypedDict):
    """A moment, as plain JSON."""

    machine: str
    monotonic: float
    time_of_day: float


@dataclass(frozen=True, slots=True)
class Clocks:
    """
    The clocks of a machine.

    :param machine: Tells it from others, and from itself before it was started last.
    :param monotonic: Seconds since it was started, the same for all its processes; nobody can set this clock.
    :param time_of_day: Seconds since 1970, the same for all machines as far as they agree.
    """

    machine: str
    monotonic: Callable[[], float]
    time_of_day: Callable[[], float]

    @classmethod
    def here(cls) -> Self:
        """Those of this machine."""
        try:
            machine = _BOOT_ID.read_text().strip()
        except OSError:
            machine = platform.node()
        return cls(machine, time.monotonic, time.time)

    def moment(self) -> Moment:
        """The present one."""
        return {"machine": self.machine, "monotonic": self.monotonic(), "time_of_day": self.time_of_day()}

    def seconds_since(self, moment: Moment, at_most: float) -> float:
        """
        How long ago a moment was, rather too little than too much.

        :param moment: Of this machine or another.
        :param at_most: What may be believed of the time of day, by which two machines have to go.
        """
        passed = self.monotonic() - moment["monotonic"]
        if moment["machine"] == self.machine and passed >= 0:
            return passed
        return min(max(0.0, self.time_of_day() - moment["time_of_day"]), at_most)
