"""What the tasks that write one recording together are told: plain JSON in XCom."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from airflow_provider_ophys.models.conversion import ImagingConversion, NotContent


class ParallelImagingConversion(ImagingConversion):
    """The options of a movie, and by how many tasks it is written; that does not change what is written."""

    num_tasks: Annotated[PositiveInt | None, NotContent] = None


class Share(BaseModel):
    """One task's share of the work: bands of shards ``first`` to ``stop - 1``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int
    stop: int

    def to_json(self) -> dict[str, Any]:
        """Return the share as what XCom carries."""
        return self.model_dump(mode="json")


class ImagingPlan(BaseModel):
    """
    How several tasks write one movie.

    :param conversion: What to convert and how; the metadata is in the allocated part already.
    :param digest: Tells this conversion from others.
    :param recording: Fingerprint of the recording that was planned for.
    :param started: When the plan was made, in seconds since 1970.
    :param part: Folder that was allocated, which is also the plan's claim to the output.
    :param dataset_path: Of the array in it.
    :param base: State of the output that is appended to or replaced, as it was when the plan was made.
    :param shares: What each task fills; none if there is nothing to do.
    :param bulk_bytes: Uncompressed size of the array.
    :param durations: Seconds of the phases that the plan went through.
    :param reused: Whether the output was there already, made by this very conversion.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversion: ParallelImagingConversion
    digest: str
    recording: str
    started: float
    part: str = ""
    dataset_path: str = ""
    base: str | None = None
    shares: list[Share] = []
    bulk_bytes: int = 0
    durations: dict[str, float] = {}
    reused: bool = False

    def with_shares(self, most: int) -> ImagingPlan:
        """Return the plan with at most so many shares, of which each may be several neighbours of this one's."""
        if len(self.shares) <= most:
            return self
        edges = [len(self.shares) * share // most for share in range(most + 1)]
        joined = [
            Share(first=self.shares[first].first, stop=self.shares[stop - 1].stop)
            for first, stop in pairwise(edges)
        ]
        return self.model_copy(update={"shares": joined})

    def to_json(self) -> dict[str, Any]:
        """Return the plan as what XCom carries."""
        return self.model_dump(mode="json", by_alias=True)


class FilledShare(BaseModel):
    """
    What one task did.

    :param filled: Bands of shards that it filled.
    :param found: Bands that were there already.
    :param elapsed_seconds: From its start to the last shard.
    :param peak_memory_bytes: Most that its process held for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    filled: int = 0
    found: int = 0
    elapsed_seconds: float = 0.0
    peak_memory_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as what XCom carries."""
        return self.model_dump(mode="json")
