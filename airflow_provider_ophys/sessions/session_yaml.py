"""``session.yaml``: what a folder holds, as a user wrote it down, in place of what would be found there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from airflow_provider_ophys.exceptions import ConfigurationError, PathNotAllowedError
from airflow_provider_ophys.models.conversion import (
    ImagingConversion,
    MovieOptions,
    SegmentationConversion,
    SegmentationOptions,
)
from airflow_provider_ophys.models.documents import read_document

NAME = "session.yaml"
EXAMPLE = "imaging: {extractor: ScanImage, extractor_kwargs: {file_path: movie.tif}}"


class SessionFile(BaseModel):
    """
    What ``session.yaml`` says: each section has one entry, or a list of them.

    In an entry, ``extractor_kwargs`` may be a list too: as many entries with the same options.

    :param imaging: Movies, with the options of :class:`MovieOptions`.
    :param segmentation: Segmentations, with those of :class:`SegmentationOptions`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    imaging: list[MovieOptions] = []
    segmentation: list[SegmentationOptions] = []

    @field_validator("imaging", "segmentation", mode="before")
    @classmethod
    def _list_entries(cls, value: Any) -> Any:
        entries = value if isinstance(value, list) else [value]
        listed: list[Any] = []
        for entry in entries:
            arguments = entry.get("extractor_kwargs") if isinstance(entry, Mapping) else None
            if isinstance(arguments, list):
                listed += [{**entry, "extractor_kwargs": each} for each in arguments]
            else:
                listed.append(entry)
        return listed


def read_session_yaml(folder: Path, allowed_roots: Sequence[Path] = ()) -> SessionFile:
    """
    Read the ``session.yaml`` of a folder.

    :param folder: Paths in the file are relative to it.
    :param allowed_roots: Folders beside this one into which absolute paths and ``..`` may lead.
    :returns: With absolute paths.
    :raises ConfigurationError: If the file is missing, is no YAML, or has a key or value that is not known.
    :raises PathNotAllowedError: If a path, or the file itself, leads elsewhere.
    """
    path = folder / NAME
    absolute = _Paths(path, folder.absolute(), allowed_roots)
    absolute.check_file()
    document = read_document(path, "session file", "imaging")
    try:
        written = SessionFile.model_validate(document)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(dict(problem))}" for problem in error.errors())
        raise ConfigurationError(f"{path} has {error.error_count()} problem(s):\n{problems}") from error
    if not written.imaging and not written.segmentation:
        raise ConfigurationError(f"{path} names no recording. Write for example\n  {EXAMPLE}")
    return SessionFile(
        imaging=[_with_paths(entry, absolute, f"imaging.{n}") for n, entry in enumerate(written.imaging)],
        segmentation=[
            _with_paths(entry, absolute, f"segmentation.{n}") for n, entry in enumerate(written.segmentation)
        ],
    )


def operator_options(entries: Sequence[MovieOptions] | Sequence[SegmentationOptions]) -> dict[str, Any]:
    """
    Return entries of one section as the options of a write operator: of several, lists where it takes them.

    :param entries: At least one, with absolute paths.
    :raises ConfigurationError: If they differ in an option that is one for all there.
    """
    each = [entry.model_dump() for entry in entries]
    if len(each) == 1:
        return each[0]
    conversion = ImagingConversion if entries[0].kind == "imaging" else SegmentationConversion
    lists = {"extractor", "extractor_kwargs", *conversion.listed}
    shared = [option for option in each[0] if option not in lists]
    if differing := [option for option in shared if any(entry[option] != each[0][option] for entry in each)]:
        raise ConfigurationError(
            f"The entries of {entries[0].kind} in {NAME} differ in {', '.join(differing)}, which is the "
            "same for all that one task writes. Give all of them the same."
        )
    return {name: [entry[name] for entry in each] if name in lists else value for name, value in each[0].items()}


def _explain(problem: dict[str, Any]) -> str:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"{where} is missing."
    if problem["type"] == "extra_forbidden":
        entries: dict[object, type[BaseModel]] = {"imaging": MovieOptions, "segmentation": SegmentationOptions}
        known = entries[problem["loc"][0]] if len(problem["loc"]) > 1 else SessionFile
        return f"{where} is not known (known there: {', '.join(known.model_fields)})."
    if problem["type"] in ("model_type", "model_attributes_type"):
        return f"{where} is {problem['input']!r}, which names no extractor. Write for example {EXAMPLE}."
    return f"{where}: {problem['msg']} (given: {problem['input']!r})."


def _with_paths[Options: (MovieOptions, SegmentationOptions)](
    entry: Options, absolute: _Paths, where: str
) -> Options:
    arguments = absolute.within(entry.extractor_kwargs, f"{where}.extractor_kwargs")
    return entry.model_copy(update={"extractor_kwargs": arguments})


class _Paths:
    """
    Makes paths in arguments absolute.

    :param file: In which they are written.
    :param folder: To which they are relative.
    :param allowed_roots: Where else they may lead.
    """

    def __init__(self, file: Path, folder: Path, allowed_roots: Sequence[Path]) -> None:
        self._file = file
        self._folder = folder
        self._roots = [folder.resolve(), *(root.resolve() for root in allowed_roots)]

    def check_file(self) -> None:
        """
        Check that the file is no link to what the folder's owner could not hand in.

        :raises PathNotAllowedError: If it is.
        """
        real = os.path.realpath(self._file)
        if not self._is_allowed(real):
            raise PathNotAllowedError(
                f"{self._file} leads to {real}, out of the folder {self._folder}. Copy it into the folder, or "
                "have [ophys] allowed_roots extended."
            )

    def _is_allowed(self, path: str) -> bool:
        return any(Path(path).is_relative_to(root) for root in self._roots)

    def within(self, value: Any, where: str) -> Any:
        """Return arguments, or one of them, with every path in it absolute."""
        if isinstance(value, Mapping):
            return {key: self.within(item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.within(item, f"{where}.{number}") for number, item in enumerate(value)]
        return self._absolute(value, where) if isinstance(value, str) else value

    def _absolute(self, text: str, where: str) -> str:
        """Arguments with other names than of a path, such as ``timeseries``, are one if something lies there."""
        path = Path(text)
        is_named_so = "path" in where.rpartition("extractor_kwargs")[2]
        leads_out = path.is_absolute() or ".." in path.parts
        looks_like_one = bool(text) and ("/" in text or bool(path.suffix))
        if not is_named_so and not (looks_like_one and _exists(self._folder / path)):
            return text
        if "\0" in text:
            raise ConfigurationError(f"{self._file}: {where} is {text!r}, which is no path. Correct it.")
        if leads_out and not self._is_allowed(os.path.realpath(self._folder / path)):
            raise PathNotAllowedError(
                f"{self._file}: {where} is {text!r}, which leads out of the folder {self._folder}. Write a path "
                "relative to the folder, or have [ophys] allowed_roots extended."
            )
        return str(self._folder / path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False
