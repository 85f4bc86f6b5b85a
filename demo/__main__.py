"""
``python -m demo``: folders of three makers, each to a verified NWB file in S3, in a real Airflow.

``python -m demo --stay`` starts the same Airflow and S3 and leaves them running for you until Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.sessions import describe_session
from demo.dandi import DandiError, validate_staged
from demo.follow import ARCHIVE, ON_ARRIVAL, Follower, FollowError
from demo.processes import uninterrupted
from demo.progress import Progress
from demo.recording import (
    MARKER,
    drop_like_a_microscope,
    simulate_acquisition,
    simulate_bruker,
    simulate_miniscope,
)
from demo.rest import AirflowApiError
from demo.s3_server import S3Server
from demo.servers import ServerError
from demo.stack import AirflowStack
from demo.summary import (
    ReportError,
    StagingError,
    arrived_in,
    describe_archived,
    describe_sessions,
    format_table,
    megabytes,
    num_archived,
)
from demo.workspace import Workspace, WorkspaceInUseError, emptied_workspace

REPOSITORY = Path(__file__).resolve().parents[1]
DROP_SECONDS = 4.0
FOLDER_NAME = "{subject_id}_{session_id}"
# What no header says of these recordings; it stands once, above their folders.
LAB = """\
NWBFile:
  institution: Institute of Simulated Neuroscience
  lab: Imaging
Subject:
  species: Mus musculus
  sex: F
  age: P90D
Ophys:
  ImagingPlanes:
    default_metadata_key: {indicator: GCaMP6f, location: VISp}
"""
EXPECTED_ERRORS = (
    AirflowApiError,
    DandiError,
    FollowError,
    OSError,
    OphysError,
    ReportError,
    ServerError,
    StagingError,
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
            _demonstrate(progress, options.acquisition, options.dandi)
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
        help="a recording's folder of your own, which is copied and never changed (default: three are simulated)",
    )
    parser.add_argument(
        "--dandi", type=Path, metavar="PATH", help="dandi-cli, which has to find nothing in what was staged"
    )
    parser.add_argument("--stay", action="store_true", help="start everything and leave it to you until Ctrl-C")
    options = parser.parse_args(arguments)
    if options.stay and options.acquisition:
        parser.error("--stay converts nothing by itself; drop your acquisition once it runs")
    if options.dandi and (options.stay or options.acquisition):
        parser.error("--dandi is for the simulated recordings, of which all is known that the archive asks for")
    if options.acquisition and not options.acquisition.is_dir():
        parser.error(f"--acquisition must be a folder, and {options.acquisition} is none")
    return options


def _demonstrate(progress: Progress, acquisition: Path | None, dandi: Path | None) -> None:
    with emptied_workspace(REPOSITORY / ".demo") as workspace, ThreadPoolExecutor(3) as background:
        if acquisition is None:
            (workspace.incoming / "lab.yaml").write_text(LAB)
            making = [background.submit(make) for make in _simulations(workspace.recordings, progress)]
        else:
            # What cannot be decided is said at once, not after the start of an Airflow.
            source = Path(describe_session(acquisition).folder)
            making = [background.submit(lambda: source)]
        with _services(workspace, progress, "" if acquisition else FOLDER_NAME) as (server, stack):
            sources = [made.result() for made in making]
            follower = Follower(stack, progress)
            follower.wait_for_dags(ON_ARRIVAL, ARCHIVE)
            names = ", ".join(source.name for source in sources)
            progress.say(f"copying {names} into the watched folder, as microscopes would")
            folders = list(
                background.map(
                    lambda source: drop_like_a_microscope(source, workspace.incoming, DROP_SECONDS), sources
                )
            )
            progress.say(f"all is there, with the marker {MARKER}")
            runs = follower.follow_until(
                ON_ARRIVAL, lambda runs: len(arrived_in(stack.client, runs)) == len(folders)
            )
            archiving = follower.follow_until(
                ARCHIVE, lambda runs: num_archived(stack.client, runs) == len(folders)
            )
            described = describe_sessions(stack.client, runs, server)
            last = describe_archived(stack.client, archiving, server)
            if dandi is not None:
                progress.say("validating what was staged, as the DANDI archive does")
                said = validate_staged(described.s3_uris, server, workspace.folder / "dandiset", dandi.absolute())
                last.append(("DANDI", said))
            progress.say("stopping")
    print(f"\n{format_table([*described.rows, ('', ''), *last, ('Elapsed', f'{progress.seconds:.0f} s')])}\n")
    for report in described.reports:
        print(f"Look at it: {report}")
    path = described.nwbfile_paths[0]
    print(f"Open it: {sys.executable} -c \"from pynwb import read_nwb; print(read_nwb('{path}'))\"")


def _stay(progress: Progress) -> None:
    with emptied_workspace(REPOSITORY / ".airflow") as workspace:
        (workspace.incoming / "lab.yaml").write_text(LAB)
        sources = [make() for make in _simulations(workspace.recordings, progress)]
        for source in sources:
            # Whoever copies it by hand sets the marker last.
            (source / MARKER).unlink()
        with _services(workspace, progress, FOLDER_NAME) as (server, stack), suppress(KeyboardInterrupt):
            Follower(stack, progress).wait_for_dags(ON_ARRIVAL, ARCHIVE)
            print(_how_to_use(workspace, sources, server, stack), flush=True)
            while True:
                stack.check_alive()
                time.sleep(1)
    print("\nEverything is stopped.")


@contextmanager
def _services(
    workspace: Workspace, progress: Progress, folder_name: str = ""
) -> Iterator[tuple[S3Server, AirflowStack]]:
    """
    Run the S3 server and Airflow, configured for each other.

    :param folder_name: What the names of acquisition folders say.
    """
    server = S3Server(workspace.s3)
    try:
        progress.say("starting an S3 server (SeaweedFS)")
        server.start()
        environment = {
            "AIRFLOW_CONN_AWS_DEFAULT": server.connection_json(),
            "AIRFLOW__OPHYS__ALLOWED_ROOTS": f"{workspace.incoming},{workspace.nwb}",
            "AIRFLOW_VAR_OPHYS_ACQUISITION_ROOT": str(workspace.incoming),
            "AIRFLOW_VAR_OPHYS_FOLDER_NAME": folder_name,
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


def _simulations(recordings: Path, progress: Progress) -> list[Callable[[], Path]]:
    """
    Return what makes the folders of three makers; their names are those of subject and session.

    nwbinspector takes a movie of fewer frames than rows for a transposed one, so each has more.
    """

    def simulate(maker: str, simulated: Callable[[Path], Path], name: str) -> Path:
        folder = simulated(recordings / name)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        progress.say(f"simulated {name}, of {maker}: {megabytes(size)}")
        return folder

    return [
        partial(
            simulate,
            "ScanImage, with what suite2p found",
            partial(
                simulate_acquisition,
                num_rows=256,
                num_columns=256,
                num_samples=300,
                num_planes=3,
                channels=("Green", "Red"),
                num_rois=60,
                sampling_frequency=10.0,
            ),
            "m21_planes",
        ),
        partial(
            simulate,
            "Bruker",
            partial(simulate_bruker, num_rows=400, num_columns=400, num_samples=450, num_rois=100),
            "m22_cortex",
        ),
        partial(
            simulate,
            "a Miniscope",
            partial(
                simulate_miniscope, num_rows=480, num_columns=480, num_samples=500, num_rois=100, animal="m23"
            ),
            "m23_openfield",
        ),
    ]


def _how_to_use(workspace: Workspace, sources: Sequence[Path], server: S3Server, stack: AirflowStack) -> str:
    copies = "\n".join(
        f"  cp -r {source} {workspace.incoming} && touch {workspace.incoming / source.name / MARKER}"
        for source in sources
    )
    return f"""
  Web UI          {stack.url}  (no password: everyone on this machine is an administrator)
  Recordings      {stack.url}/plugin/ophys
  Watched folder  {workspace.incoming}
  NWB files       {workspace.nwb}
  S3              {server.endpoint_url}, bucket {server.bucket}
  Logs            {workspace.airflow}

Drop an acquisition, its marker last:
{copies}

The DAG {ON_ARRIVAL} then converts it. Ctrl-C stops everything; the next start empties all of these folders.
"""


if __name__ == "__main__":
    sys.exit(main())
