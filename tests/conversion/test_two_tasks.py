"""Two tasks that write one output: the loser is tried again, and then finds the work done."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing

import pytest
from movies import imaging, write_tiff

from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.many_workers import fill_share, plan_imaging, publish_imaging
from airflow_provider_ophys.conversion.publishing import publishing
from airflow_provider_ophys.conversion.run import Run, convert_imaging
from airflow_provider_ophys.exceptions import OphysError, OutputBusyError, OutputExistsError, OutputFolderError
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.plan import ParallelImagingConversion


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    return write_tiff(tmp_path_factory.mktemp("movie") / "movie.tif")


def movie(tiff, path, kind=ImagingConversion, **options):
    return kind(**imaging(tiff, path, **options))


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
@pytest.mark.parametrize("if_exists", ["reuse", "append", "overwrite", "fail"])
def test_who_is_overtaken_while_preparing_is_tried_again(tmp_path, tiff, if_exists, backend):
    path = tmp_path / "a.nwb"
    conversion = movie(tiff, path, if_exists=if_exists, backend=backend)
    slow = Run(conversion, Environment())
    look = slow.look

    def look_and_be_overtaken():
        found = look()
        convert_imaging(conversion)
        return found

    slow.look = look_and_be_overtaken
    with pytest.raises(OutputBusyError, match="has written .* while this one was preparing") as caught:
        slow.convert()
    assert caught.value.retryable
    if if_exists == "fail":
        with pytest.raises(OutputExistsError):
            convert_imaging(conversion)
    else:
        assert convert_imaging(conversion).reused == (if_exists != "overwrite")


def test_a_plan_that_is_overtaken_is_tried_again(tmp_path, tiff, monkeypatch):
    from airflow_provider_ophys.conversion import many_workers

    path = tmp_path / "a.nwb.zarr"
    planned = movie(tiff, path, ParallelImagingConversion)
    make_run = many_workers.Run

    def overtaken(conversion, environment):
        run = make_run(conversion, environment)
        look = run.look

        def look_and_be_overtaken():
            found = look()
            convert_imaging(movie(tiff, path))
            return found

        run.look = look_and_be_overtaken
        return run

    monkeypatch.setattr(many_workers, "Run", overtaken)
    with pytest.raises(OutputBusyError, match="while this one was preparing"):
        plan_imaging(planned)
    monkeypatch.undo()
    plan = plan_imaging(planned)
    assert plan.reused
    assert publish_imaging(plan, [fill_share(plan, share) for share in plan.shares]).reused


def attempt(tiff, path, if_exists, results):
    """Convert as Airflow would, with retries of what may be retried."""
    while True:
        try:
            results.put(convert_imaging(movie(tiff, path, if_exists=if_exists)).reused)
        except OphysError as error:
            if error.retryable:
                continue
            results.put(repr(error))
        return


@pytest.mark.parametrize("if_exists", ["reuse", "append"])
def test_of_many_tasks_one_writes_and_the_others_reuse(tmp_path, tiff, if_exists):
    # Processes that know nothing of each other, of one that has imported for all of them what takes seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["airflow_provider_ophys.conversion.run", "roiextractors"])
    results = context.Queue()
    arguments = (tiff, tmp_path / "a.nwb", if_exists, results)
    tasks = [context.Process(target=attempt, args=arguments) for _ in range(4)]
    for task in tasks:
        task.start()
    found = [results.get(timeout=240) for _ in tasks]
    for task in tasks:
        task.join()
    assert sorted(found, key=str) == [False, True, True, True]


def test_a_file_system_without_locks_is_named_and_can_be_used(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    path = tmp_path / "a.nwb"
    with pytest.raises(OutputFolderError, match=r"set \[ophys\] lock = none"), publishing(path, replace=False):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []
    with publishing(path, replace=False, lock=False) as part:
        part.write_text("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]
