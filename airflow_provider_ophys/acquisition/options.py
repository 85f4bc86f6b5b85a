"""
What is watched, and what a complete folder is: where the options of the sensor and the triggers are declared.

Their signatures, the sensor's template fields, what a trigger is stored as, and the table in the docs follow from
:class:`AcquisitionOptions`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
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
from airflow_provider_ophys.models.rendered_options import none_if_blank, parse_bytes
from airflow_provider_ophys.models.validation import list_problems, number_check

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


def _bytes(value: object) -> object:
    return 0 if value in (0, "0") else parse_bytes(value)


Glob = Annotated[str, AfterValidator(_inner_glob)]
Globs = Annotated[tuple[Glob, ...], BeforeValidator(_several)]


class AcquisitionOptions(BaseModel):
    """
    What is watched and when it is complete.

    Values may be rendered templates or Airflow Variables, hence text where a number is meant.

    :raises ConfigurationError: From :meth:`create`, with every wrong option in one message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    _wants_numbers = number_check()

    path: Annotated[str, BeforeValidator(os.fspath)] = Field(
        min_length=1,
        description="The folder that is watched. It must be visible where it is looked at: in the triggerer for "
        "the trigger and the deferrable sensor, and on the worker for every sensor.",
    )
    pattern: Annotated[Glob, AfterValidator(_one_part_per_level)] = Field(
        "*",
        description='Glob for the acquisition folders in it, one part per level of folders, such as `"*/*"`. A '
        "link counts as the folder that it leads to, as long as that is inside `path`.",
    )
    marker_file: Annotated[Glob | None, BeforeValidator(none_if_blank)] = Field(
        None,
        description="Glob, relative to an acquisition folder, of the file that the acquisition software writes "
        "when it is complete. With it, `settle_seconds` has no effect.",
    )
    required_files: Globs = Field(
        (),
        description="Globs, relative to an acquisition folder (`**/` for any depth), each of which a file must "
        "match.",
    )
    settle_seconds: float = Field(
        DEFAULT_SETTLE_SECONDS,
        ge=0,
        allow_inf_nan=False,
        description="Without `marker_file`, a folder is complete when nothing in it was added, removed, grown or "
        "touched for so many seconds, from one look to another.",
    )
    min_size: Annotated[int, BeforeValidator(_bytes)] = Field(
        0,
        description='Least size of a complete folder, in bytes or as `"512MiB"`.',
    )
    min_files: NonNegativeInt = Field(
        1,
        description="Least number of files in a complete folder; one that is empty is never complete.",
    )
    ignore: Globs = Field(
        DEFAULT_IGNORE,
        description="Globs for the names of files and folders that are no part of a recording.",
    )
    incomplete: Globs = Field(
        DEFAULT_INCOMPLETE,
        description="Globs for the names of files and folders that are only there while something is being "
        "written; a folder with one in it is not complete.",
    )
    existing: Literal["process", "ignore"] = Field(
        "process",
        description="What to do with the folders that are already there at the first look with this ledger: "
        '`"ignore"` never hands them over, for an archive that is already there. One that is still being '
        "written then is new when it has changed.",
    )
    max_folders: Annotated[PositiveInt | None, BeforeValidator(none_if_blank)] = Field(
        None,
        description="How many folders to hand over at a time, the oldest first: by one run of the sensor, or as "
        "the events of one look of the trigger. The next run or look has the others. Default, and "
        "never more than: Airflow's `[core] max_map_length`, and 200 events.",
    )

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

    @classmethod
    def check_given(cls, options: Mapping[str, Any]) -> None:
        """
        Check the options that are known when the DAG is parsed; templates are checked when they are rendered.

        :raises ConfigurationError: One error that names every wrong option.
        """
        known = {name: value for name, value in options.items() if not is_rendered_later(value)}
        cls.create(**{"path": "rendered later", **known})

    @property
    def root(self) -> Path:
        """The watched folder as an absolute path of this machine, links and all."""
        return Path(os.path.normpath(Path(self.path).absolute()))

    def as_kwargs(self) -> dict[str, Any]:
        """The options as plain JSON that :meth:`create` takes back."""
        return self.model_dump(mode="json")


def is_rendered_later(value: object) -> bool:
    """Whether Airflow puts something else in place of a value before the task runs."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, list | tuple):
        return any(map(is_rendered_later, value))
    return not isinstance(value, os.PathLike | int | float | None)


def takes_acquisition_options[F: Callable[..., None]](function: F) -> F:
    """
    Give a function that takes the options as ``**kwargs`` the signature that names each.

    Airflow goes by the signature for ``default_args`` and mapped operators, people by what ``help()`` shows.
    """
    own = signature(function)
    options = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.is_required() else field.default,
            annotation=field.annotation,
        )
        for name, field in AcquisitionOptions.model_fields.items()
    ]
    *named, others = own.parameters.values()
    first = [each for each in named if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    last = [each for each in named if each.kind is Parameter.KEYWORD_ONLY]
    function.__signature__ = own.replace(parameters=[*first, *options, *last, others])  # type: ignore[attr-defined]
    return function
