"""Many processes write one movie: whatever their number, order and kills, it is what one would have written."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from failing_calls import run_with_failures, why_not
from hdmf_zarr import NWBZarrIO
from hypothesis import given
from hypothesis import strategies as st
from movies import imaging, photons, write_tiff

from airflow_provider_ophys.conversion.environment import Defaults, Environment
from airflow_provider_ophys.conversion.many_workers import fill_share, plan_imaging, publish_imaging, share_out
from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    InvalidOutputError,
    OutputBusyError,
    OutputExistsError,
    OutputWriteError,
    PlanLostError,
    SourceDataError,
)
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.plan import ImagingPlan, ParallelImagingConversion

FORK = multiprocessing.get_context("fork")
METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00", "identifier": "m1"}}
ARRAY = "acquisition/TwoPhotonSeries/data"


@pytest.fixture
def tiff(tmp_path):
    """21 frames; in bands of 4 of them with two shards each, the last band of one frame."""
    return write_tiff(tmp_path / "movie.tif", photons(21, 16, 24))


def options(tiff, path, **more):
    shards = {ARRAY: {"chunk_shape": [2, 6, 8], "shard_shape": [4, 12, 16]}}
    known = imaging(tiff, path, metadata=METADATA, backend="zarr", backend_configuration=shards)
    # Validation takes seconds and does not matter here but once.
    return known | {"validate": False} | more


def planned(tiff, path, **more):
    plan = plan_imaging(ParallelImagingConversion.from_options(options(tiff, path, **more)))
    # What XCom does to it.
    return ImagingPlan.model_validate(json.loads(json.dumps(plan.to_json())))


def written_by_one(tiff, path, **more):
    return convert_imaging(ImagingConversion.from_options(options(tiff, path, **more)))


def written_by_many(tiff, path, **more):
    plan = planned(tiff, path, **more)
    return publish_imaging(plan, [fill_share(plan, share) for share in plan.shares])


def tree(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


OBJECT_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def without_ids_and_date(found):
    """
    Leave out the date of creation, and replace each random object id by the number of its first appearance.

    They come of the allocation, whether one process or a plan does it, and differ between any two conversions;
    which object refers to which must not.
    """
    numbers = {}

    def number(match):
        return b"%d" % numbers.setdefault(match[0], len(numbers))

    return {
        name: OBJECT_ID.sub(number, found[name]) if name.endswith("zarr.json") else found[name]
        for name in sorted(found)
        if not name.startswith("file_create_date/c/")
    }


def neighbours(path):
    return {entry.name for entry in path.parent.iterdir()} - {path.name, "movie.tif"}


@given(st.integers(1, 500), st.integers(1, 600))
def test_shares_are_disjoint_complete_and_even(num_bands, num_tasks):
    shares = share_out(num_bands, num_tasks)
    assert list(itertools.chain(*(range(share.first, share.stop) for share in shares))) == list(range(num_bands))
    sizes = {share.stop - share.first for share in shares}
    assert len(shares) == min(num_bands, num_tasks)
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_the_result_is_that_of_one_process(tmp_path, tiff, num_tasks):
    one = written_by_one(tiff, tmp_path / "one.nwb", validate=True)
    many = written_by_many(tiff, tmp_path / "many.nwb", validate=True, num_tasks=num_tasks)
    expected, found = tree(tmp_path / "one.nwb"), tree(tmp_path / "many.nwb")
    assert {name for name in found if name.startswith(f"{ARRAY}/c/")} == {
        f"{ARRAY}/c/{band}/{column}/0" for band in range(6) for column in range(2)
    }
    assert without_ids_and_date(found) == without_ids_and_date(expected)
    assert many.durations.keys() == one.durations.keys()
    varying = {"nwbfile_path", "elapsed_seconds", "throughput_mb_per_s", "peak_memory_bytes", "durations"}
    assert many.model_dump(exclude=varying) == one.model_dump(exclude=varying)
    assert not neighbours(tmp_path / "many.nwb") - {"one.nwb"}
    with NWBZarrIO(str(tmp_path / "many.nwb"), "r") as io:
        data = io.read().acquisition["TwoPhotonSeries"].data[:]
    np.testing.assert_array_equal(data, tifffile.imread(tiff).transpose(0, 2, 1))


@pytest.fixture(scope="module")
def big_tiff(tmp_path_factory):
    """A movie whose shards take long enough for a kill in the middle of one."""
    return write_tiff(tmp_path_factory.mktemp("big") / "movie.tif", photons(480, 128, 256, seed=1))


BIG = {
    "backend_configuration": {ARRAY: {"chunk_shape": [2, 256, 128], "shard_shape": [60, 256, 128]}},
    "threads": 1,
    "memory_limit": "4MiB",
}


@pytest.fixture(scope="module")
def big_by_one(tmp_path_factory, big_tiff):
    path = tmp_path_factory.mktemp("one") / "one.nwb"
    written_by_one(big_tiff, path, **BIG)
    return without_ids_and_date(tree(path))


def start_filling(plan, share):
    process = FORK.Process(target=fill_share, args=(plan, share))
    process.start()
    return process


def unfinished_shards(plan):
    return [file for file in (Path(plan.part) / ARRAY).rglob(".*.part") if file.stat().st_size]


def kill_in_mid_shard(plan, share):
    """Fill a share until it is in the middle of a shard, then kill; tell whether it was not finished before."""
    before = set(unfinished_shards(plan))
    process = start_filling(plan, share)
    while process.is_alive() and not set(unfinished_shards(plan)) - before:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL and bool(set(unfinished_shards(plan)) - before)


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_kills_in_mid_shard_cost_those_shards_and_change_nothing(tmp_path, big_tiff, big_by_one, num_workers):
    chance = random.Random(num_workers)  # noqa: S311
    path = tmp_path / "movie.nwb"
    plan = planned(big_tiff, path, num_tasks=num_workers, **BIG)
    killed = sum(kill_in_mid_shard(plan, share) for share in plan.shares for _ in range(2))
    assert killed
    shares = chance.sample(plan.shares, len(plan.shares))
    processes = [start_filling(plan, share) for share in shares]
    for process in chance.sample(processes, len(processes)):
        process.join()
        assert process.exitcode == 0
    publish_imaging(plan, [])
    assert without_ids_and_date(tree(path)) == big_by_one
    assert not neighbours(path)


def test_every_tree_that_comes_of_one_plan_is_the_same_to_the_last_byte(tmp_path, tiff):
    """Ids and dates are the plan's, so with one plan nothing at all may differ."""
    path = tmp_path / "movie.nwb"
    plan = planned(tiff, path, num_tasks=6)
    shutil.copytree(plan.part, tmp_path / "allocated")
    trees = []
    for shares in (plan.shares, plan.shares[::-1], random.Random(0).sample(plan.shares * 2, 12)):  # noqa: S311
        if path.exists():
            shutil.rmtree(path)
            shutil.copytree(tmp_path / "allocated", plan.part)
        for share in shares:
            fill_share(plan, share)
        publish_imaging(plan, [])
        trees.append(tree(path))
    assert trees[0] == trees[1] == trees[2]


def test_two_processes_with_the_same_share_do_no_harm(tmp_path, big_tiff, big_by_one):
    """As when Airflow takes a worker for dead that is not."""
    path = tmp_path / "movie.nwb"
    plan = planned(big_tiff, path, num_tasks=1, **BIG)
    processes = [start_filling(plan, plan.shares[0]) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    publish_imaging(plan, [])
    assert without_ids_and_date(tree(path)) == big_by_one


def test_a_repeated_task_fills_only_what_is_missing(tmp_path, tiff):
    plan = planned(tiff, tmp_path / "movie.nwb", num_tasks=1)
    shards = Path(plan.part) / ARRAY / "c"
    first = fill_share(plan, plan.shares[0])
    assert (first.filled, first.found) == (6, 0)
    written = {file: file.stat().st_mtime_ns for file in shards.rglob("*") if file.is_file()}
    (shards / "2" / "1" / "0").unlink()
    again = fill_share(plan, plan.shares[0])
    assert (again.filled, again.found) == (1, 5)
    kept = {file for file in written if file.stat().st_mtime_ns == written[file]}
    assert {str(file.relative_to(shards)) for file in set(written) - kept} == {"2/0/0", "2/1/0"}


DAMAGE = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "index altered": lambda content: content[:-20] + b"\1" + content[-19:],
    "chunks lost in the middle": lambda content: content[40:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_shard_is_not_published_and_is_filled_again(tmp_path, tiff, damage):
    path = tmp_path / "movie.nwb"
    plan = planned(tiff, path, num_tasks=2)
    for share in plan.shares:
        fill_share(plan, share)
    shard = Path(plan.part) / ARRAY / "c" / "4" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(damage(whole))
    with pytest.raises(InvalidOutputError, match=r"1 of 6 bands of shards are not there: 4\."):
        publish_imaging(plan, [])
    assert not path.exists()
    assert [fill_share(plan, share).filled for share in plan.shares] == [0, 1]
    assert shard.read_bytes() == whole
    publish_imaging(plan, [])


def test_a_share_whose_shards_hold_something_else_is_not_published(tmp_path, tiff):
    """Whole by all that their index says, as of a worker that reads another recording at the same path."""
    path = tmp_path / "movie.nwb"
    plan = planned(tiff, path, num_tasks=6, validate=True)
    for share in plan.shares:
        fill_share(plan, share)
    shards = Path(plan.part) / ARRAY / "c"
    own = (shards / "4" / "0" / "0").read_bytes()
    shutil.copyfile(shards / "3" / "0" / "0", shards / "4" / "0" / "0")
    with pytest.raises(InvalidOutputError, match="Row 16 of .* is not what the recording holds"):
        publish_imaging(plan, [])
    assert not path.exists()
    (shards / "4" / "0" / "0").write_bytes(own)
    publish_imaging(plan, [])


def test_what_is_missing_is_not_published(tmp_path, tiff):
    path = tmp_path / "movie.nwb"
    plan = planned(tiff, path, num_tasks=3)
    fill_share(plan, plan.shares[1])
    with pytest.raises(InvalidOutputError, match=r"4 of 6 bands of shards are not there: 0, 1, 4, 5\."):
        publish_imaging(plan, [])
    assert not path.exists()


def test_the_same_plan_made_again_joins_the_first(tmp_path, tiff):
    path = tmp_path / "movie.nwb"
    first = planned(tiff, path, num_tasks=2)
    fill_share(first, first.shares[0])
    second = planned(tiff, path, num_tasks=3)
    assert second.part == first.part
    assert [fill_share(second, share).filled for share in second.shares] == [0, 1, 2]
    publish_imaging(second, [])
    # The first finds everything done.
    assert fill_share(first, first.shares[1]).filled == 0
    assert publish_imaging(first, []).nwbfile_path == str(path)
    assert not neighbours(path)


@pytest.mark.parametrize(
    "other",
    [
        {"photon_series_type": "OnePhotonSeries", "backend_configuration": None},
        {"compression": "small"},
        {"metadata": METADATA | {"Subject": {"subject_id": "m2"}}},
    ],
)
def test_another_plan_for_the_same_output_is_refused(tmp_path, tiff, other):
    path = tmp_path / "movie.nwb"
    plan = planned(tiff, path)
    before = tree(Path(plan.part))
    with pytest.raises(OutputBusyError, match=f"in {plan.part}"):
        planned(tiff, path, **other)
    with pytest.raises(OutputBusyError, match="delete that folder, which gives up"):
        written_by_one(tiff, path)
    assert tree(Path(plan.part)) == before
    shutil.rmtree(plan.part)
    other_plan = planned(tiff, path, **other)
    assert other_plan.part != plan.part
    with pytest.raises(PlanLostError, match="Run the task that plans again"):
        fill_share(plan, plan.shares[0])
    with pytest.raises(OutputBusyError):
        publish_imaging(plan, [])
    assert neighbours(path) == {Path(other_plan.part).name}


def test_workers_configured_differently_compress_alike(tmp_path, tiff):
    def on_a_worker(compression):
        return Environment(Defaults(compression=compression))

    path = tmp_path / "movie.nwb"
    conversion = ParallelImagingConversion.from_options(options(tiff, path, num_tasks=2))
    plan = plan_imaging(conversion, on_a_worker("small"))
    for share, compression in zip(plan.shares, ["fast", "none"], strict=True):
        fill_share(plan, share, on_a_worker(compression))
    publish_imaging(plan, [])
    written_by_one(tiff, tmp_path / "one.nwb", compression="small")
    assert tree(path / ARRAY) == tree(tmp_path / "one.nwb" / ARRAY)


def test_what_is_wrong_with_one_worker_is_said_there(tmp_path, tiff):
    plan = planned(tiff, tmp_path / "movie.nwb")
    misconfigured = Environment(problems=[ConfigurationError("[ophys] is wrong here")])
    with pytest.raises(ConfigurationError, match="wrong here"):
        fill_share(plan, plan.shares[0], misconfigured)
    with pytest.raises(ConfigurationError, match="wrong here"):
        publish_imaging(plan, [], misconfigured)


def test_a_finished_conversion_is_reused(tmp_path, tiff):
    """Whoever made it: one process or many, what was written is the same."""
    written_by_one(tiff, tmp_path / "one.nwb")
    plan = planned(tiff, tmp_path / "one.nwb")
    assert plan.shares == []
    assert publish_imaging(plan, []).reused
    written_by_many(tiff, tmp_path / "many.nwb")
    assert written_by_one(tiff, tmp_path / "many.nwb").reused
    with pytest.raises(OutputExistsError, match="was not written by this conversion"):
        planned(tiff, tmp_path / "one.nwb", compression="small")
    with pytest.raises(OutputExistsError, match="if_exists='fail'"):
        planned(tiff, tmp_path / "one.nwb", if_exists="fail")


def test_an_output_that_appears_meanwhile_is_left_alone(tmp_path, tiff):
    path = tmp_path / "movie.nwb"
    plan = planned(tiff, path, num_tasks=1)
    fill_share(plan, plan.shares[0])
    path.write_text("theirs")
    with pytest.raises(OutputExistsError, match="appeared"):
        publish_imaging(plan, [])
    assert path.read_text() == "theirs"
    path.unlink()
    publish_imaging(plan, [])


def test_overwriting_keeps_the_old_output_until_the_new_one_is_whole(tmp_path, tiff):
    path = tmp_path / "movie.nwb"
    written_by_one(tiff, path, compression="small")
    before = tree(path)
    plan = planned(tiff, path, if_exists="overwrite", num_tasks=2)
    fill_share(plan, plan.shares[0])
    assert tree(path) == before
    fill_share(plan, plan.shares[1])
    old = shutil.copytree(path, tmp_path / "old")
    publish_imaging(plan, [])
    new = tree(path)
    assert new != before
    # A publisher that is killed after the two have changed places leaves the old one where the part was.
    shutil.move(old, plan.part)
    assert publish_imaging(plan, []).nwbfile_path == str(path)
    assert tree(path) == new
    assert not neighbours(path)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_what_was_replaced_and_cannot_be_removed_is_named_and_removed_by_another_try(tmp_path, tiff):
    path = tmp_path / "movie.nwb"
    written_by_one(tiff, path, compression="small")
    plan, before = planned(tiff, path, if_exists="overwrite"), tree(path)
    fill_share(plan, plan.shares[0])

    is_published = False

    def publish():
        try:
            publish_imaging(plan, [])
        except OutputWriteError as error:
            return str(error)

    def fails(call):
        nonlocal is_published
        is_published = is_published or call.name == "renameat2"
        return errno.EIO if is_published and call.name == "unlinkat" and call.path.startswith(plan.part) else 0

    message = run_with_failures(publish, fails)
    assert message is not None
    assert f"{path} is published, but what it replaced could not be removed" in message
    assert tree(path) != before
    assert publish_imaging(plan, []).nwbfile_path == str(path)
    assert not neighbours(path)


def test_appending_adds_to_what_is_there_and_only_to_that(tmp_path, tiff):
    path = tmp_path / "movie.nwb"
    written_by_one(tiff, path)
    second = METADATA | {"Ophys": {"MicroscopySeries": {"second": {"name": "Second", "unit": "n.a."}}}}
    more = {"if_exists": "append", "metadata": second, "backend": None, "backend_configuration": None}
    plan = planned(tiff, path, **more)
    with pytest.raises(OutputBusyError):
        written_by_one(tiff, path, if_exists="overwrite")
    for share in plan.shares:
        fill_share(plan, share)
    shutil.copytree(path, tmp_path / "base")
    (path / "zarr.json").write_text("{}")
    with pytest.raises(OutputExistsError, match="has changed since the plan was made"):
        publish_imaging(plan, [])
    shutil.rmtree(path)
    (tmp_path / "base").rename(path)
    publish_imaging(plan, [])
    with NWBZarrIO(str(path), "r") as io:
        series = io.read().acquisition
        for name in ("TwoPhotonSeries", "Second"):
            np.testing.assert_array_equal(series[name].data[:], tifffile.imread(tiff).transpose(0, 2, 1))
    assert written_by_many(tiff, path, **more).reused


@pytest.mark.parametrize("backend", [None, "hdf5"])
def test_hdf5_is_refused_and_zarr_offered(tmp_path, tiff, backend):
    with pytest.raises(ConfigurationError, match="by one process only. Write Zarr with backend='zarr'"):
        planned(tiff, tmp_path / "movie.nwb", backend=backend, backend_configuration=None)
    assert not neighbours(tmp_path / "movie.nwb")


def test_a_recording_that_changes_between_the_tasks_is_not_mixed_in(tmp_path, tiff):
    plan = planned(tiff, tmp_path / "movie.nwb", num_tasks=2)
    fill_share(plan, plan.shares[0])
    frames = tifffile.imread(tiff)
    write_tiff(tiff, frames + 1)
    with pytest.raises(SourceDataError, match="changed since the plan was made"):
        fill_share(plan, plan.shares[1])


def change_between_samples(file, *, keep_times=False):
    """Change what is compared by its time only: of a large file samples are read."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(before.st_size // 40)
        stream.write(bytes(1000))
    if keep_times:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


LARGE = {
    "num_tasks": 2,
    "backend_configuration": {ARRAY: {"shard_shape": [100, 128, 128], "chunk_shape": [10, 128, 128]}},
}


def test_nor_is_one_that_changed_between_its_samples(tmp_path):
    tiff = write_tiff(tmp_path / "movie.tif", photons(200, 128, 128))
    begun, filled = (planned(tiff, tmp_path / name, **LARGE) for name in ("begun.nwb", "filled.nwb"))
    for plan, share in ((begun, 0), (filled, 0), (filled, 1)):
        fill_share(plan, plan.shares[share])
    change_between_samples(tiff)
    with pytest.raises(SourceDataError, match="changed since the plan was made"):
        fill_share(begun, begun.shares[1])
    with pytest.raises(SourceDataError, match="changed since the plan was made"):
        publish_imaging(filled, [])
    with pytest.raises(
        OutputBusyError, match="was begun by this conversion, .*only samples are compared.* Delete"
    ):
        planned(tiff, tmp_path / "begun.nwb", **LARGE)


def test_by_content_a_plan_goes_on_with_a_copy_and_not_with_what_only_looks_unchanged(tmp_path):
    tiff = write_tiff(tmp_path / "movie.tif", photons(200, 128, 128))
    options = LARGE | {"reuse": "content"}
    plan = planned(tiff, tmp_path / "movie.nwb", **options)
    fill_share(plan, plan.shares[0])
    os.utime(tiff)
    assert planned(tiff, tmp_path / "movie.nwb", **options).part == plan.part
    for share in plan.shares:
        fill_share(plan, share)
    assert not publish_imaging(plan, []).reused
    assert planned(tiff, tmp_path / "movie.nwb", **options).reused

    other = planned(tiff, tmp_path / "other.nwb", **options)
    for share in other.shares:
        fill_share(other, share)
    change_between_samples(tiff, keep_times=True)
    with pytest.raises(OutputBusyError, match="was begun by this conversion, but the recording has other content"):
        planned(tiff, tmp_path / "other.nwb", **options)
    with pytest.raises(OutputExistsError, match="has other content by now"):
        planned(tiff, tmp_path / "movie.nwb", **options)
    os.utime(tiff)
    with pytest.raises(SourceDataError, match="changed since the plan was made"):
        publish_imaging(other, [])
    assert not (tmp_path / "other.nwb").exists()


def test_a_task_that_was_given_up_for_dead_brings_nothing_back(tmp_path, big_tiff):
    """It goes on writing while another has finished its share and the store was published."""
    path = tmp_path / "movie.nwb"
    plan = planned(big_tiff, path, num_tasks=1, **BIG)
    slow = start_filling(plan, plan.shares[0])
    while slow.is_alive() and not unfinished_shards(plan):
        time.sleep(0.001)
    os.kill(slow.pid, signal.SIGSTOP)
    fill_share(plan, plan.shares[0])
    publish_imaging(plan, [])
    published = tree(path)
    os.kill(slow.pid, signal.SIGCONT)
    slow.join()
    assert slow.exitcode == 0
    assert tree(path) == published
    assert not neighbours(path)


def test_the_number_of_tasks_follows_from_the_size(tmp_path, tiff):
    assert len(planned(tiff, tmp_path / "a.nwb").shares) == 1, "a second task would only cost its start"
    assert len(planned(tiff, tmp_path / "b.nwb", num_tasks=4).shares) == 4
    assert len(planned(tiff, tmp_path / "c.nwb", num_tasks=100).shares) == 6, "no more than there are bands"
    with pytest.raises(ConfigurationError, match="num_tasks"):
        planned(tiff, tmp_path / "d.nwb", num_tasks=0)
