"""The DAG files that come with the package, and copies of them in a DAG folder of Airflow."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_ophys.exceptions import OutputExistsError, OutputFolderError

_PACKAGE = Path(__file__).parents[1]


def dag_files() -> list[Path]:
    """Return the DAG files, by name: those in the installed package, or in the clone that it is run from."""
    installed = _PACKAGE / "example_dags"
    return sorted((installed if installed.is_dir() else _PACKAGE.with_name("dags")).glob("*.py"))


def copy_dag_files(folder: Path, *, force: bool) -> dict[str, str]:
    """
    Copy the DAG files into a folder.

    :param folder: The DAG folder of Airflow, or a folder below it; it is made if its parent is there.
    :param force: Whether to overwrite a file that differs.
    :returns: What was done, by the file's name: ``"copied"``, ``"updated"`` or ``"unchanged"``.
    :raises OutputExistsError: If a file differs, unless forced; then nothing was copied.
    :raises OutputFolderError: If the folder cannot be made or written.
    """
    files = dag_files()
    done = {file.name: _compared(file, folder / file.name) for file in files}
    differing = [name for name, state in done.items() if state == "updated"]
    if differing and not force:
        raise OutputExistsError(
            f"{folder} has other files of these names: {', '.join(differing)}. Nothing was copied. Copy into "
            f"another folder and compare, or overwrite them with --force."
        )
    try:
        folder.mkdir(exist_ok=True)
        for file in files:
            if done[file.name] != "unchanged":
                (folder / file.name).write_bytes(file.read_bytes())
    except OSError as error:
        raise OutputFolderError(
            f"The DAG files cannot be copied to {folder}: {error.strerror}. Name a folder that is there, or one "
            f"to be made in a folder that is, and that you may write."
        ) from error
    return done


def _compared(file: Path, target: Path) -> str:
    if target.is_file():
        return "unchanged" if target.read_bytes() == file.read_bytes() else "updated"
    return "updated" if target.exists() or target.is_symlink() else "copied"
