"""What is watched, and what a complete folder is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.conversion import parse_bytes
from airflow_provider_ophys.models.validation import list_problems

DEFAULT_SETTLE_SECONDS: Final = 60.0
DEFAULT_IGNORE: Final = (".*", "~$*", "Thumbs.db", "desktop.ini")
DEFAULT_INCOMPLETE: Final = (
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "*.tmp",
    ".rsync-partial",
    ".~tmp~",
    # rsync writes "movie.tif" as ".movie.tif.Zk31xQ" until it is whole.
    ".*." + 6 * "[0-9a-z]",
)


def _inner_glob(glob: str) -> str:
    glob = glob.removesuffix("/")
    if not glob or glob.startswith("/") or ".." in glob.split("/"):
        raise ValueError("must be a relative glob that stays inside the folder it is about")
    return glob


def _one_part_per_level(glob: str) -> str:
    if "**" in glob:
        raise ValueError("must have one part per level of folders, such as '*/*'; '**' is not known here")
    return glob


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _none_if_blank(value: object) -> object:
    """A template that renders to nothing means that the option is not given."""
    return None if value in ("", "None") else value


def _bytes(value: object) -> object:
    return 0 if value in (0, "0") else parse_bytes(value)


Glob = Annotated[str, AfterValidator(_inner_glob)]
Globs = Annotated[tuple[Glob, ...], BeforeValidator(_several)]


class AcquisitionOptions(BaseModel):
    """
    What is watched and when it is complete; the sensor and the triggers describe each option.

    Values may be rendered templates, hence text where a number is meant.

    :raises ConfigurationError: From :meth:`create`, with every wrong option in one message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, BeforeValidator(os.fspath), Field(min_length=1)]
    pattern: Annotated[Glob, AfterValidator(_one_part_per_level)] = "*"
    marker_file: Annotated[Glob | None, BeforeValidator(_none_if_blank)] = None
    required_files: Globs = ()
    settle_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = DEFAULT_SETTLE_SECONDS
    min_size: Annotated[int, BeforeValidator(_bytes)] = 0
    min_files: NonNegativeInt = 1
    ignore: Globs = DEFAULT_IGNORE
    incomplete: Globs = DEFAULT_INCOMPLETE
    existing: Literal["process", "ignore"] = "process"
    max_folders: Annotated[PositiveInt | None, BeforeValidator(_none_if_blank)] = None

    @classmethod
    def create(cls, **options: Any) -> Self:
        """
        Check the options.

        :raises ConfigurationError: One error that names every wrong option.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            raise ConfigurationError(
                f"{error.error_count()} option(s) for watching a folder are wrong:\n{list_problems(error)}"
            ) from error

    @property
    def root(self) -> Path:
        """The watched folder as an absolute path of this machine, links and all."""
        return Path(os.path.normpath(Path(self.path).absolute()))

    def as_kwargs(self) -> dict[str, Any]:
        """The options as plain JSON that :meth:`create` takes back."""
        return self.model_dump(mode="json")
