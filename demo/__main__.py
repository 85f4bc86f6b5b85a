"""
``python -m demo``: one acquisition, from a microscope's folder to a verified NWB file in S3, in a real Airflow.

``python -m demo --stay`` starts the same Airflow and S3 and leaves them running for you until Ctrl-C.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from demo.follow import ARCHIVE, ON_ARRIVAL, Follower, FollowError
from demo.processes import uninterrupted
from demo.progress import Progress
from demo.recording import MARKER, drop_like_a_microscope, simulate_acquisition
from demo.rest import AirflowApiError
from demo.s3_server import S3Server
from demo.servers import ServerError
from demo.session import SESSION, UnknownRecordingError, guess_session
from demo.stack import AirflowStack
from demo.summary import (
    GROUP,
    ReportError,
    StagingError,
    describe_arrival,
    describe_conversion,
    describe_reports,
    describe_staging,
    format_table,
    megabytes,
    nwb_path,
    report_path,
)
from demo.workspace import Workspace, WorkspaceInUseError, emptied_workspace

REPOSITORY = Path(__file__).resolve().parents[1]
DROP_SECONDS = 4.0
EXPECTED_ERRORS = (
    AirflowApiError,
    FollowError,
    OSError,
    ReportError,
    ServerError,
    StagingError,
    UnknownRecordingError,
    WorkspaceInUseError,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration and give its exit code."""
    options = _parse(arguments)
    # Both ways to ask for an end unwind the same, also where a shell has us ignore Ctrl-C, so that nothing stays.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    progress = Progress()
    try:
        if options.stay:
            _stay(progress)
        else:
            _demonstrate(progress, options.acquisition, options.sampling_frequency)
    except KeyboardInterrupt:
        print("\nInterrupted; everything is stopped.", file=sys.stderr)
        return 130
    except EXPECTED_ERRORS as error:
        print(f"\nThe demonstration failed; everything is stopped.\n{error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--acquisition",
        type=Path,
        metavar="PATH",
        help="a recording's folder of your own, which is copied and never changed (default: one is simulated)",
    )
    parser.add_argument(
        "--sampling-frequency",
        type=float,
        metavar="HZ",
        help="frames per second, for an acquisition whose TIFF does not say it",
    )
    parser.add_argument("--stay", action="store_true", help="start everything and leave it to you until Ctrl-C")
    options = parser.parse_args(arguments)
    if options.stay and options.acquisition:
        parser.error("--stay converts nothing by itself; drop your acquisition once it runs")
    if options.sampling_frequency is not None and not options.acquisition:
        parser.error("--sampling-frequency belongs to an --acquisition")
    if options.sampling_frequency is not None and not 0 < options.sampling_frequency < math.inf:
        parser.error(f"--sampling-frequency must be more than 0 Hz, not {options.sampling_frequency}")
    if options.acquisition and not options.acquisition.is_dir():
        parser.error(f"--acquisition must be a folder, and {options.acquisition} is none")
    return options


def _demonstrate(progress: Progress, acquisition: Path | None, sampling_frequency: float | None) -> None:
    with emptied_workspace(REPOSITORY / ".demo") as workspace, ThreadPoolExecutor(1) as background:
        making: Future[None] | None = None
        if acquisition is None:
            source, described = workspace.recordings / "two_photon_session", {}
            making = background.submit(_simulate, source, progress)
        else:
            source = acquisition.resolve()
            described = _described(source, sampling_frequency, progress)
        with _services(workspace, progress) as (server, stack):
            if making is not None:
                making.result()
            follower = Follower(stack, progress)
            follower.wait_for_dags(ON_ARRIVAL, ARCHIVE)
            progress.say(f"copying {source.name} into the watched folder, as a microscope would")
            folder = drop_like_a_microscope(source, workspace.incoming, DROP_SECONDS, more_files=described)
            progress.say(f"{folder.name} is complete: its marker {MARKER} is there")
            run = follower.follow(ON_ARRIVAL)
            archiving = follower.follow(ARCHIVE)
            rows = [
                *describe_arrival(folder),
                *describe_conversion(stack.client, run),
                *describe_reports(stack.client, run),
                *describe_staging(stack.client, run, f"{GROUP}.stage", server),
                *describe_staging(stack.client, archiving, "archive", server),
            ]
            path, report = nwb_path(stack.client, run), report_path(stack.client, run)
            progress.say("stopping")
    print(f"\n{format_table([*rows, ('Elapsed', f'{progress.seconds:.0f} s')])}\n")
    print(f"Look at it: {report}")
    print(f"Open it: {sys.executable} -c \"from pynwb import read_nwb; print(read_nwb('{path}'))\"")


def _stay(progress: Progress) -> None:
    with emptied_workspace(REPOSITORY / ".airflow") as workspace:
        source = workspace.recordings / "two_photon_session"
        _simulate(source, progress)
        # Whoever copies it by hand sets the marker last.
        (source / MARKER).unlink()
        with _services(workspace, progress) as (server, stack), suppress(KeyboardInterrupt):
            Follower(stack, progress).wait_for_dags(ON_ARRIVAL, ARCHIVE)
            print(_how_to_use(workspace, source, server, stack), flush=True)
            while True:
                stack.check_alive()
                time.sleep(1)
    print("\nEverything is stopped.")


@contextmanager
def _services(workspace: Workspace, progress: Progress) -> Iterator[tuple[S3Server, AirflowStack]]:
    """Run the S3 server and Airflow, configured for each other."""
    server = S3Server(workspace.s3)
    try:
        progress.say("starting an S3 server (SeaweedFS)")
        server.start()
        environment = {
            "AIRFLOW_CONN_AWS_DEFAULT": server.connection_json(),
            "AIRFLOW__OPHYS__ALLOWED_ROOTS": f"{workspace.incoming},{workspace.nwb}",
            "AIRFLOW_VAR_OPHYS_ACQUISITION_ROOT": str(workspace.incoming),
            "AIRFLOW_VAR_OPHYS_OUTPUT_ROOT": str(workspace.nwb),
            "AIRFLOW_VAR_OPHYS_DESTINATION": f"s3://{server.bucket}/sessions/",
            "AIRFLOW_VAR_OPHYS_ARCHIVE_DESTINATION": f"s3://{server.bucket}/archive/",
        }
        stack = AirflowStack(
            workspace.airflow,
            dags_folder=REPOSITORY / "dags",
            environment=environment,
            progress=lambda text: progress.say(f"Airflow: {text}"),
        )
        with stack:
            progress.say(f"Airflow is healthy at {stack.url}")
            yield server, stack
    finally:
        with uninterrupted():
            server.stop()


def _simulate(folder: Path, progress: Progress) -> None:
    simulate_acquisition(folder, num_samples=1000, num_rows=512, num_columns=512, num_rois=250)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    progress.say(f"simulated a two-photon acquisition of {megabytes(size)}")


def _described(source: Path, sampling_frequency: float | None, progress: Progress) -> dict[str, str]:
    """Describe a folder that does not do so itself, and say what is assumed."""
    if (source / SESSION).exists():
        if sampling_frequency is not None:
            raise UnknownRecordingError(
                f"{source / SESSION} says what to convert: leave out --sampling-frequency."
            )
        return {}
    guess = guess_session(source, sampling_frequency=sampling_frequency)
    progress.say(f"{source} has no {SESSION}; the copy gets one, which assumes:")
    for assumption in guess.assumptions:
        print(f"         - {assumption}")
    return guess.files


def _how_to_use(workspace: Workspace, source: Path, server: S3Server, stack: AirflowStack) -> str:
    target = workspace.incoming / "my_session"
    return f"""
  Web UI          {stack.url}  (no password: everyone on this machine is an administrator)
  Recordings      {stack.url}/plugin/ophys
  Watched folder  {workspace.incoming}
  NWB files       {workspace.nwb}
  S3              {server.endpoint_url}, bucket {server.bucket}
  Logs            {workspace.airflow}

Drop an acquisition, its marker last:
  cp -r {source} {target} && touch {target / MARKER}

The DAG {ON_ARRIVAL} then converts it. Ctrl-C stops everything; the next start empties all of these folders.
"""


if __name__ == "__main__":
    sys.exit(main())
