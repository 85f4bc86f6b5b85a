"""
The commands: describe a folder, convert it, repair an output, copy the DAGs.

They end with 0 if it was done, 1 if it was refused or failed, 2 if the command was wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.models.session import Session
from airflow_provider_ophys.sessions import describe_session
from airflow_provider_ophys.terminal.dag_files import copy_dag_files
from airflow_provider_ophys.terminal.tables import print_session

app = typer.Typer(
    help="Calcium-imaging recordings to NWB files, from a terminal.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(help="Folder of a session, as the microscope left it.")]
Metadata = Annotated[
    list[Path] | None, typer.Option("--metadata", "-m", help="YAML or JSON file over all else; may be repeated.")
]
Root = Annotated[Path | None, typer.Option(help="The uppermost folder whose lab.yaml counts.")]
Subjects = Annotated[Path | None, typer.Option("--subjects", help="CSV file with a row for each subject_id.")]
FolderName = Annotated[
    str | None,
    typer.Option(
        "--folder-name",
        help="What the folder's name says, such as '{subject_id}_{session_start_time:%Y%m%d}'.",
    ),
]
Volumes = Annotated[bool, typer.Option("--volumes/--planes", help="Volumes as one series, or a series per plane.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def describe(  # noqa: PLR0917 - typer takes the parameters by name
    folder: Folder,
    metadata: Metadata = None,
    root: Root = None,
    subjects: Subjects = None,
    folder_name: FolderName = None,
    volumes: Volumes = True,
    as_json: AsJSON = False,
) -> None:
    """Tell what would be converted, and where each fact stands. Reads no pixels, writes nothing."""
    with _refusing(as_json=as_json):
        session = _describe(folder, metadata, root, subjects, folder_name, volumes=volumes)
    if as_json:
        typer.echo(session.model_dump_json(indent=2))
    else:
        print_session(Console(), session)


@app.command()
def convert(  # noqa: PLR0917
    folder: Folder,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="NWB file to write: .nwb or .h5 (HDF5), .zarr (Zarr).")
    ],
    metadata: Metadata = None,
    root: Root = None,
    subjects: Subjects = None,
    folder_name: FolderName = None,
    volumes: Volumes = True,
    if_exists: Annotated[str, typer.Option(help="reuse, fail, overwrite or append.")] = "reuse",
    reuse: Annotated[
        str,
        typer.Option(
            help="What proves that the file was made from this recording: state (of its files) or content."
        ),
    ] = "state",
    report: Annotated[bool, typer.Option("--report", help="Write a report beside the file.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Write all of a session into one NWB file."""
    with _refusing(as_json=as_json):
        session = _describe(folder, metadata, root, subjects, folder_name, volumes=volumes)
        if not as_json:
            print_session(Console(), session, metadata=False)
        result = _convert(session, output, if_exists=if_exists, reuse=reuse, report=report)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        done = "was there already" if result["reused"] else f"{result['elapsed_seconds']:.1f} s"
        size = result["size_bytes"] / 1e6
        Console().print(f"[green]{escape(result['nwbfile_path'])}[/] ({size:.1f} MB, {done})", soft_wrap=True)


@app.command()
def repair(
    file: Annotated[Path, typer.Argument(help="NWB file, or where it was, of which a task was killed.")],
) -> None:
    """Put in order what a killed task left of an NWB file."""
    from airflow_provider_ophys.conversion.repair import repair as repair_output

    with _refusing(as_json=False):
        told = repair_output(file.absolute())
    for sentence in told or [f"{file} is in order."]:
        typer.echo(sentence)


@app.command()
def dags(
    folder: Annotated[Path, typer.Argument(help="DAG folder of Airflow, or a folder below it.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of these names that differ.")] = False,
) -> None:
    """Copy the DAGs that come with this package into a DAG folder, as files to be changed."""
    from airflow_provider_ophys.compat import conf

    with _refusing(as_json=False):
        done = copy_dag_files(folder.absolute(), force=force)
    for name, what in done.items():
        typer.echo(f"{what}: {folder.absolute() / name}")
    if conf.getboolean("core", "load_examples"):
        typer.echo(
            "Airflow's [core] load_examples is on. Airflow 3.3 then shows these DAGs as examples of the package "
            "too, under the same names: turn it off, so that it is these copies that run."
        )


def _describe(
    folder: Path,
    metadata: list[Path] | None,
    root: Path | None,
    subjects: Path | None,
    folder_name: str | None,
    *,
    volumes: bool,
) -> Session:
    return describe_session(
        folder,
        metadata=metadata or None,
        root=root,
        subject_table=subjects,
        folder_name=folder_name,
        volumes=volumes,
    )


def _convert(session: Session, output: Path, *, if_exists: str, reuse: str, report: bool) -> dict[str, Any]:
    from airflow_provider_ophys.conversion.environment import Environment
    from airflow_provider_ophys.conversion.session import convert_session

    conversion = session.conversion(output.absolute(), if_exists=if_exists, reuse=reuse, report=report)
    environment = Environment()
    result = convert_session(conversion, environment)
    if report:
        from airflow_provider_ophys.report.conversion import with_report

        result = with_report(result, environment.defaults.wish(conversion), environment.stop)
    return result.to_json()


@contextmanager
def _refusing(*, as_json: bool) -> Iterator[None]:
    """Tell an error of ours as what it is, and end with 1."""
    try:
        yield
    except OphysError as error:
        if as_json:
            typer.echo(json.dumps({"error": type(error).__name__, "message": str(error)}, indent=2))
        else:
            Console(stderr=True).print(
                f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True
            )
        raise typer.Exit(1) from error
