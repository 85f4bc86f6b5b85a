"""The table at the end of the demonstration: what arrived, what is known of it, what was written, where it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from demo.rest import AirflowClient, DagRun, TaskInstance
from demo.s3_server import S3Server

type Result = Mapping[str, Any]
type Rows = list[tuple[str, str]]
GROUP = "convert_session"
LINE_LENGTH = 100


class StagingError(RuntimeError):
    """What the staging task reported is not what the bucket holds."""


class ReportError(RuntimeError):
    """The report of what was converted is missing, or the web UI does not show it."""


@dataclass(frozen=True)
class Described:
    """
    What became of several sessions.

    :param rows: Of the table: names and texts.
    :param reports: Paths of their reports.
    :param nwbfile_paths: Paths of their NWB files.
    :param s3_uris: Where these were staged.
    """

    rows: Rows = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    nwbfile_paths: list[str] = field(default_factory=list)
    s3_uris: list[str] = field(default_factory=list)


def results(client: AirflowClient, run: DagRun, task: str) -> list[Result]:
    """Collect what the instances of one task returned, by map index."""
    return [client.xcom(found) for found in _instances(client, run, task)]


def arrived_in(client: AirflowClient, runs: Iterable[DagRun]) -> list[str]:
    """Collect the names of the folders that runs of the arrival DAG were for."""
    return [folder["name"] for run in runs for folder in _handed_over(client, run)]


def _handed_over(client: AirflowClient, run: DagRun) -> list[dict[str, Any]]:
    return [folder for task in _instances(client, run, "arrivals") for folder in client.xcom(task)]


def num_archived(client: AirflowClient, runs: Iterable[DagRun]) -> int:
    """Count the files that runs of the archive DAG have sent."""
    return sum(len(results(client, run, "archive")) for run in runs)


def describe_sessions(client: AirflowClient, runs: Iterable[DagRun], server: S3Server) -> Described:
    """
    Describe what runs of the arrival DAG found, wrote and staged.

    :raises ReportError: When there is no report of a session, or the web UI does not show it.
    :raises StagingError: When the bucket does not hold what a task reported.
    """
    described = Described()
    for run in runs:
        known = results(client, run, f"{GROUP}.describe")
        tasks = _instances(client, run, f"{GROUP}.write")
        staged = results(client, run, f"{GROUP}.stage")
        for session, task, copy in zip(known, tasks, staged, strict=True):
            written = client.xcom(task)
            described.rows.extend(
                [
                    ("", ""),
                    (Path(session["folder"]).name, _arrived(Path(session["folder"]))),
                    *_written(written),
                    *_origins(session),
                    ("Report", f"{_shown(client, task, written)} (while Airflow runs)"),
                    ("S3", _staged(copy, server)),
                ]
            )
            described.reports.append(written["report"]["html"])
            described.nwbfile_paths.append(written["nwbfile_path"])
            described.s3_uris.append(copy["s3_uri"])
    return described


def describe_archived(client: AirflowClient, runs: Iterable[DagRun], server: S3Server) -> Rows:
    """
    Describe what runs of the archive DAG uploaded.

    :raises StagingError: When the bucket does not hold what a task reported.
    """
    return [("Archive", _staged(result, server)) for run in runs for result in results(client, run, "archive")]


def format_table(rows: Sequence[tuple[str, str]]) -> str:
    """Lay rows out, the names in a column of their own, and break long texts."""
    width = max(len(name) for name, _ in rows)
    lines = []
    for name, text in rows:
        pieces = textwrap.wrap(text, LINE_LENGTH, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [
            f"  {label:<{width}}  {piece}".rstrip()
            for label, piece in zip([name, *[""] * (len(pieces) - 1)], pieces, strict=True)
        ]
    return "\n".join(lines)


def megabytes(size: float) -> str:
    """Write a number of bytes, in units of 10^6."""
    return f"{size / 1e6:.1f} MB"


def _staged(staged: Result, server: S3Server) -> str:
    place = urlsplit(staged["s3_uri"])
    key = place.path.strip("/")
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=place.netloc, Prefix=key)
    listed = [entry for page in pages for entry in page.get("Contents", [])]
    # A file is one object; a tree is all below its prefix.
    sizes = [entry["Size"] for entry in listed if entry["Key"] == key or entry["Key"].startswith(f"{key}/")]
    if len(sizes) < staged["objects"] or sum(sizes) < staged["size_bytes"]:
        raise StagingError(
            f"{staged['s3_uri']} should hold {staged['objects']} object(s) of {staged['size_bytes']} bytes; "
            f"the bucket lists {len(sizes)} of {sum(sizes)} bytes."
        )
    return f"{staged['s3_uri']}: {staged['objects']} object(s), {megabytes(sum(sizes))}, as the bucket lists"


def _instances(client: AirflowClient, run: DagRun, task: str) -> list[TaskInstance]:
    found = [each for each in client.task_instances(run) if each.task_id == task and each.state == "success"]
    return sorted(found, key=lambda instance: instance.map_index)


def _arrived(folder: Path) -> str:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return f"{len(files)} files, {megabytes(sum(file.stat().st_size for file in files))}"


def _origins(session: Result) -> Rows:
    """Say for each origin of metadata which fields it told."""
    told: dict[str, dict[str, None]] = {}
    for path, source in session["sources"].items():
        for place in source.split("; "):
            origin = Path(place.partition(": ")[0]).name
            # The keys only tie entries together.
            if not path.endswith("_metadata_key"):
                told.setdefault(origin, {})[path.rpartition(".")[2]] = None
    assumed = told.pop("assumed", {})
    rows = [(f"from {origin}", ", ".join(fields)) for origin, fields in told.items()]
    return [*rows, ("assumed", ", ".join(assumed))] if assumed else rows


def _shown(client: AirflowClient, task: TaskInstance, written: Result) -> str:
    if written["report"] is None:
        raise ReportError(f"There is no report of {written['nwbfile_path']}: {written['report_problem']}")
    address = client.report_address(task)
    if client.report_page(task) != Path(written["report"]["html"]).read_bytes():
        raise ReportError(f"{address} does not show {written['report']['html']}.")
    return address


def _written(written: Result) -> Rows:
    movies = written["photon_series"]
    raw = sum(_num_bytes(movie) for movie in movies)
    size = f"{megabytes(raw)} of movies in a file of {megabytes(written['size_bytes'])}"
    rows = [("NWB file", f"{written['nwbfile_path']} ({written['backend']}): {size}")]
    for movie in movies:
        shape = " x ".join(map(str, (movie["num_samples"], *movie["sample_shape"])))
        axes = ", ".join(("time", "column", "row", "plane")[: 1 + len(movie["sample_shape"])])
        rows.append(("Movie", f"{movie['name']}: {shape} ({axes}) of {movie['dtype']}"))
    if written["num_rois"]:
        tables = ", ".join(written["plane_segmentations"])
        traces = ", ".join(written["traces"])
        rows.append(("Segmentation", f"{tables}: {written['num_rois']} ROIs, traces {traces}"))
    return [*rows, ("", _effort(written))]


def _num_bytes(movie: Result) -> int:
    shape = (movie["num_samples"], *movie["sample_shape"])
    return int(np.prod(shape)) * np.dtype(movie["dtype"]).itemsize


def _effort(result: Result) -> str:
    if result["reused"]:
        return f"reused, it was there already; {result['validation']}"
    return (
        f"{result['elapsed_seconds']:.1f} s, {result['throughput_mb_per_s']:.0f} MB/s, "
        f"peak memory {megabytes(result['peak_memory_bytes'])}; {result['validation']}"
    )
