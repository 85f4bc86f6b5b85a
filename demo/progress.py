"""Short lines that say what a long command is doing, each with the seconds since its start."""

from __future__ import annotations

import time


class Progress:
    """
    Prints a line when there is something new to say, and a sign of life when there is not.

    :param silence: Seconds after which an unchanged state is said again.
    """

    def __init__(self, *, silence: float = 10) -> None:
        self._silence = silence
        self._started = time.monotonic()
        self._said, self._said_at = "", 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print a line, unless it was the last one a moment ago."""
        if text != self._said or self._silent_too_long():
            self._said, self._said_at = text, self.seconds
            print(f"[{self.seconds:4.0f} s] {text}", flush=True)

    def still(self, text: str) -> None:
        """Print a line only when nothing was printed for a while."""
        if self._silent_too_long():
            self.say(text)

    def _silent_too_long(self) -> bool:
        return self.seconds - self._said_at > self._silence
