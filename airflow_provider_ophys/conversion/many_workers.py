"""
One movie written by many processes on any number of hosts, which share nothing but the storage.

Plan, fill, publish: the plan allocates the store beside its path and shares out the shards; each share is
filled by whoever has it, in any order, as often as need be, for a shard is there whole or not at all; when all
are there, the store is checked and moved to its path. The steps are those of :mod:`.output`, so the result is
what one process would have written.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from airflow_provider_ophys import __version__
from airflow_provider_ophys.conversion.checks import compare_samples
from airflow_provider_ophys.conversion.datasets import BulkDataset
from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.inspection import inspect_file
from airflow_provider_ophys.conversion.movie_statistics import gather_shares, keep_share, keep_statistics, watch
from airflow_provider_ophys.conversion.output import Durations, WriteOptions, allocate, check_written, copy_to_add
from airflow_provider_ophys.conversion.provenance import find_conversion
from airflow_provider_ophys.conversion.publishing import (
    building,
    check_still,
    move,
    naming_write_errors,
    part_of,
    sole_writer,
    sync,
)
from airflow_provider_ophys.conversion.recording_errors import naming_recordings
from airflow_provider_ophys.conversion.reuse import why_unproven
from airflow_provider_ophys.conversion.run import (
    Run,
    check_paths,
    kept_by,
    parts_of,
    recordings_of,
    result_of,
    write_options,
)
from airflow_provider_ophys.conversion.storages import ZarrStorage, open_storage, storage_for
from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    OphysError,
    OutputBusyError,
    OutputExistsError,
    OutputWriteError,
    PlanLostError,
    SourceDataError,
)
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.models.allowed_roots import check_allowed
from airflow_provider_ophys.models.output_path import choose_backend
from airflow_provider_ophys.models.plan import FilledShare, ImagingPlan, ParallelImagingConversion, Share
from airflow_provider_ophys.models.problems import Problems
from airflow_provider_ophys.models.result import Finding, ImagingResult
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.nwb.imaging import make_iterator
from airflow_provider_ophys.recordings import Recording
from airflow_provider_ophys.recordings.state import SourceState, content_digest, fingerprint
from airflow_provider_ophys.writing.memory import PeakMemory
from airflow_provider_ophys.writing.network_shares import remove
from airflow_provider_ophys.writing.output_lock import HeldLock
from airflow_provider_ophys.writing.replacement import state_of
from airflow_provider_ophys.writing.shards import ShardGrid, remove_unfinished
from airflow_provider_ophys.writing.sharing import check_not_stopped, sharing

log = logging.getLogger(__name__)

# A task takes seconds to start and a worker writes some hundred megabytes per second: about a minute's work keeps
# the start below a tenth, and a hundred tasks are enough for a terabyte.
TASK_BYTES = 16 * 10**9
MOST_TASKS = 100


def plan_imaging(conversion: ParallelImagingConversion, environment: Environment | None = None) -> ImagingPlan:
    """
    Allocate the store of a movie and share out the work; joins what the same plan has begun already.

    :param conversion: What to convert and how.
    :param environment: Where it runs.
    :raises ConfigurationError: If the output is to be HDF5.
    :raises OutputBusyError: If another plan or process is writing the output.
    :raises OphysError: As :func:`airflow_provider_ophys.conversion.run.convert_imaging` does.
    """
    started, durations = time.time(), Durations()
    environment = environment or Environment()
    # What one worker's configuration says must hold for all of them.
    compression = conversion.compression or environment.defaults.compression
    known = [*environment.problems, *_problems_of(conversion)]
    run = Run(conversion, replace(environment, problems=known))
    existing = run.look()
    conversion = conversion.model_copy(update={"compression": compression, "metadata": None})
    if existing is not None:
        return ImagingPlan(**_identity(run, conversion), started=started, reused=True)
    if run.problems or not run.record:
        run.prepare()  # finds what else is in the way, and raises
    base = run.found if conversion.if_exists in ("append", "overwrite") else None
    part = part_of(run.path, _plan_name(run, conversion, base))
    with sole_writer(run.path, part, lock=environment.defaults.lock) as held:
        check_still(run.path, run.found)
        begun = find_conversion(part, run.record["digest"])
        if begun is None:
            _allocate(run, part, held, durations)
        else:
            _check_begun(run, part, begun)
            log.info("Going on with what was begun in %s.", part)
        allocated = _share_out(conversion, part, run.record["digest"])
    return ImagingPlan(
        **_identity(run, conversion), **allocated, started=started, base=base, durations=durations.seconds
    )


def _check_begun(run: Run, part: Path, begun: dict[str, Any]) -> None:
    """
    Check that what is there of a part was filled from the recording as it is now.

    :raises OutputBusyError: If that is not proven; says why.
    """
    why = why_unproven(run.conversion, begun, cast("SourceState", run.source), run.content)
    if why is not None:
        raise OutputBusyError(
            f"{part}, which is filled for {run.path}, was begun by this conversion, {why}. Delete it, which gives "
            "up what is done so far, or let the tasks of its plan finish."
        )


def _problems_of(conversion: ParallelImagingConversion) -> list[ConfigurationError]:
    if conversion.is_of_several:
        return [
            ConfigurationError(
                "extractor or extractor_kwargs is a list, but many tasks write one movie together. Write several "
                "movies with one WriteImagingOperator, or each with a task group of its own."
            )
        ]
    path = Path(conversion.nwbfile_path)
    added_to = conversion.if_exists == "append" and path.exists()
    if (conversion.backend or (backend_of(path) if added_to else choose_backend(path, None))) == "zarr":
        return []
    return [
        ConfigurationError(
            f"{path} is to be HDF5, and an HDF5 file can be written by one process only. Write Zarr with "
            "backend='zarr', or HDF5 with one WriteImagingOperator."
        )
    ]


def _allocate(run: Run, part: Path, held: HeldLock, durations: Durations) -> None:
    with naming_recordings(run.recordings):
        output = run.prepare()
    durations.end("prepare")
    unfinished = part_of(run.path)
    with naming_write_errors(run.path), building(unfinished, held):
        remove(part)
        copy_to_add(output, unfinished, run.environment.stop)
        allocate(output, unfinished, run.record)
        sync(unfinished)
        unfinished.rename(part)
    durations.end("allocate")


def _share_out(conversion: ParallelImagingConversion, part: Path, digest: str) -> dict[str, Any]:
    """Return what the plan says of the allocated array and of who fills it."""
    record = find_conversion(part, digest)
    if record is None:
        raise PlanLostError(_LOST.format(part=part))
    dataset_path = f"{record['path']}/data"
    array = _storage(write_options(conversion, Environment())).open_array(part, dataset_path)
    num_tasks = conversion.num_tasks or min(-(-array.nbytes // TASK_BYTES), MOST_TASKS)
    return {
        "part": str(part),
        "dataset_path": dataset_path,
        "shares": share_out(ShardGrid(array, part / dataset_path).num_bands, num_tasks),
        "bulk_bytes": array.nbytes,
    }


def _identity(run: Run, conversion: ParallelImagingConversion) -> dict[str, Any]:
    return {"conversion": conversion, "digest": run.record["digest"], "recording": run.record["recording"]}


def share_out(num_bands: int, num_tasks: int) -> list[Share]:
    """Cut bands into shares of neighbours that differ by one at most; never more shares than bands."""
    num_tasks = min(num_tasks, num_bands)
    edges = [num_bands * task // num_tasks for task in range(num_tasks + 1)]
    return [Share(first=first, stop=stop) for first, stop in pairwise(edges)]


def _plan_name(run: Run, conversion: ParallelImagingConversion, base: str | None) -> str:
    """Name a plan by all that decides the bytes it writes, so that two plans of one name may write together."""
    decisive = [run.record["digest"], str(conversion.compression), __version__, str(base)]
    return hashlib.sha256("\n".join(decisive).encode()).hexdigest()[:12]


def fill_share(plan: ImagingPlan, share: Share, environment: Environment | None = None) -> FilledShare:
    """
    Fill the shards of one share that are not there yet.

    :param plan: From :func:`plan_imaging`.
    :param share: Which.
    :param environment: Where it runs.
    :raises PlanLostError: If what was allocated is not there any more.
    :raises SourceDataError: If the recording is not the one that was planned for, or cannot be read.
    :raises ConversionStoppedError: If asked to stop; the shards that are finished stay.
    """
    begun = time.monotonic()
    part = Path(plan.part)
    environment = environment or Environment()
    _check(plan, environment)
    _check_part(plan, environment)
    try:
        with PeakMemory() as memory:
            filled = _fill_missing(plan, range(share.first, share.stop), environment)
    except (OphysError, OSError):
        if part.exists():
            raise
        _require_published(plan)
        filled = 0
    return FilledShare(
        filled=filled,
        found=share.stop - share.first - filled,
        elapsed_seconds=round(time.monotonic() - begun, 3),
        peak_memory_bytes=memory.peak_bytes,
    )


def publish_imaging(
    plan: ImagingPlan, filled: Sequence[FilledShare], environment: Environment | None = None
) -> ImagingResult:
    """
    Check that every shard is there and whole, check the store, and move it to its path.

    :param plan: From :func:`plan_imaging`.
    :param filled: What the tasks did, for the result.
    :param environment: Where it runs.
    :returns: As a single conversion does; the time is since the plan was made, the memory that of the task that
        held the most; ``fill`` is how long the slowest of them took.
    :raises InvalidOutputError: If a shard is missing or the store does not fit the NWB schema.
    :raises OutputExistsError: If something else has appeared at the path.
    :raises PlanLostError: If neither what was allocated nor the finished output is there.
    """
    path, part = Path(plan.conversion.nwbfile_path), Path(plan.part)
    environment = environment or Environment()
    _check(plan, environment)
    record, findings, durations = None, None, Durations()
    if not plan.reused:
        _check_part(plan, environment)
        with sole_writer(path, part, lock=environment.defaults.lock), naming_write_errors(path):
            record = find_conversion(part, plan.digest)
            if record is None or (plan.base is not None and state_of(part) == plan.base):
                # A publisher that was killed after the move may have left what it replaced.
                record = _require_published(plan)
                _remove_replaced(part, path)
            else:
                findings = _publish(plan, path, part, environment, durations)
    if findings is None:
        findings = _inspect(plan, path)
    with naming_write_errors(path, published=True):
        result = result_of(
            path,
            record or _require_published(plan),
            time.time() - plan.started,
            bulk_bytes=plan.bulk_bytes,
            peak_memory_bytes=max((one.peak_memory_bytes for one in filled), default=0),
            reused=plan.reused,
        )
    if not plan.reused:
        result["source_bytes"] = SourceState.of(recordings_of(plan.conversion)).num_bytes
        filling = {"fill": max((one.elapsed_seconds for one in filled), default=0.0)}
        result["durations"] = plan.durations | filling | durations.seconds
    return ImagingResult(**result | {"inspection": findings})


def _check(plan: ImagingPlan, environment: Environment) -> None:
    """Check that this worker is set up well, and that the plan, which comes from XCom, leads where it may."""
    Problems(environment.problems).raise_found()
    check_paths(plan.conversion, environment)


def _check_part(plan: ImagingPlan, environment: Environment) -> None:
    """Check where the part leads; a plan that found its output there has none."""
    check_allowed("plan.part", str(Path(plan.part, plan.dataset_path)), environment.defaults.allowed_roots)


def _inspect(plan: ImagingPlan, path: Path) -> list[Finding] | None:
    inspect = plan.conversion.inspect
    return None if inspect is None else inspect_file(open_storage(path), path, inspect)


_LOST = (
    "What was allocated for the tasks to fill is not there any more: {part}. It was given up, or what was "
    "published from it has been replaced. Run the task that plans again, and those after it."
)


def _fill_missing(plan: ImagingPlan, bands: range, environment: Environment) -> int:
    """Fill those of the bands that are missing; return how many."""
    part, conversion = Path(plan.part), plan.conversion
    options = write_options(conversion, environment)
    storage = _storage(options)
    array = storage.open_array(part, plan.dataset_path)
    missing = ShardGrid(array, part / plan.dataset_path).missing_bands(bands)
    log.info("%d of %d bands of shards are there already.", len(bands) - len(missing), len(bands))
    if missing:
        with naming_recordings(recordings_of(conversion)), sharing(options.wish, options.stop) as resources:
            dataset = _open_source(plan, array)
            if conversion.report:
                watch([dataset], resources)
            with naming_write_errors(part):
                storage.fill(part, [dataset], resources, missing)
                keep_share(part, dataset, missing)
    return len(missing)


def _open_source(plan: ImagingPlan, array: Any, stop: threading.Event | None = None) -> BulkDataset:
    """
    Open the recording, and make sure that it is still the one that was planned for.

    :param stop: Ends the reading of all of it, which ``reuse="content"`` may ask for; without, that is left to who
        publishes.
    :raises SourceDataError: If it is not: shards of two recordings must not meet in one array.
    """
    conversion = plan.conversion
    recordings = recordings_of(conversion)
    if fingerprint(recordings) != plan.recording or not _is_unchanged(plan, recordings, stop):
        raise SourceDataError(_CHANGED)
    (movie,) = parts_of(conversion)
    imaging = open_imaging(movie.extractor, movie.extractor_kwargs, check=False)
    source = make_iterator(imaging, conversion.iterator_options or {})
    if tuple(source.maxshape) != array.shape or source.dtype != array.dtype:
        raise SourceDataError(_CHANGED)
    return BulkDataset(None, plan.dataset_path, plan.dataset_path, source)


def _is_unchanged(plan: ImagingPlan, recordings: Sequence[Recording], stop: threading.Event | None) -> bool:
    """Tell whether a recording is what it was when the part was allocated, also where samples do not tell."""
    record = find_conversion(Path(plan.part), plan.digest) or {}
    source = SourceState.of(recordings)
    if record.get("state", source.digest) == source.digest or source.is_sampled_whole:
        return True
    if plan.conversion.reuse == "state":
        return False
    return stop is None or record.get("content") == content_digest(recordings, partial(check_not_stopped, stop))


_CHANGED = "The recording has changed since the plan was made. Run the task that plans again, and those after it."


def _publish(
    plan: ImagingPlan, path: Path, part: Path, environment: Environment, durations: Durations
) -> list[Finding] | None:
    storage = _storage(write_options(plan.conversion, environment))
    seen = gather_shares(storage, part, plan.dataset_path) if plan.conversion.report else {}
    remove_unfinished(part / plan.dataset_path)
    check_written(storage, part, [plan.dataset_path], validate=plan.conversion.validate_output)
    array = storage.open_array(part, plan.dataset_path)
    with naming_recordings(recordings_of(plan.conversion)):
        dataset = _open_source(plan, array, environment.stop)
        if plan.conversion.validate_output:
            # Of each share: another worker filled it.
            rows_per_band = ShardGrid(array, part / plan.dataset_path).rows_per_band
            compare_samples(storage, part, [dataset], [share.first * rows_per_band for share in plan.shares])
    findings = _inspect(plan, part)
    durations.end("check")
    if plan.base is not None and state_of(path) != plan.base:
        raise OutputExistsError(
            f"{path} has changed since the plan was made; it was left as it is. Delete {part}, then run "
            "the task that plans again, and those after it."
        )
    sync(part)
    move(part, path, plan.base, kept_by(plan.conversion, environment))
    _remove_replaced(part, path)
    # A task that Airflow had given up for dead may have begun another shard just before the move.
    remove_unfinished(path / plan.dataset_path)
    keep_statistics(path, seen, more=plan.conversion.if_exists == "append")
    durations.end("publish")
    return findings


def _remove_replaced(part: Path, path: Path) -> None:
    """
    Remove what the published store replaced; where it is now, it would claim the output for its plan.

    :raises OutputWriteError: If that does not work.
    """
    try:
        remove(part)
    except OSError as error:
        raise OutputWriteError(
            f"{path} is published, but what it replaced could not be removed: {error}. Try again, or delete "
            f"{part}; until then no other plan writes this output."
        ) from error


def _require_published(plan: ImagingPlan) -> dict[str, Any]:
    record = find_conversion(Path(plan.conversion.nwbfile_path), plan.digest)
    if record is None:
        raise PlanLostError(_LOST.format(part=plan.part))
    return record


def _storage(options: WriteOptions) -> ZarrStorage:
    return cast("ZarrStorage", storage_for("zarr", options.backend_configuration, options.compression))
