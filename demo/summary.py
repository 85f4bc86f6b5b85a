"""The table at the end of the demonstration: what arrived, what was written, where it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from demo.rest import AirflowClient, DagRun
from demo.s3_server import S3Server

type Result = Mapping[str, Any]
GROUP = "convert_session"


class StagingError(RuntimeError):
    """What the staging task reported is not what the bucket holds."""


class ReportError(RuntimeError):
    """The report of what was converted is missing, or the web UI does not show it."""


def results(client: AirflowClient, run: DagRun, task: str) -> list[Result]:
    """Collect what the instances of one task returned, by map index."""
    tasks = sorted(client.task_instances(run), key=lambda instance: instance.map_index)
    return [client.xcom(found) for found in tasks if found.task_id == task and found.state == "success"]


def nwb_path(client: AirflowClient, run: DagRun) -> str:
    """Give the path of the first file that a run wrote."""
    return str(results(client, run, f"{GROUP}.write")[0]["nwbfile_path"])


def report_path(client: AirflowClient, run: DagRun) -> str:
    """
    Give the path of the report of the first file that a run wrote.

    :raises ReportError: When the task that should have made it could not.
    """
    written = results(client, run, f"{GROUP}.write")[0]
    if written["report"] is None:
        raise ReportError(f"There is no report of {written['nwbfile_path']}: {written['report_problem']}")
    return str(written["report"]["html"])


def describe_arrival(folder: Path) -> list[tuple[str, str]]:
    """Describe an acquisition's folder, as rows of a name and a text."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [("Arrived", f"{folder}: {len(files)} files, {megabytes(sum(file.stat().st_size for file in files))}")]


def describe_conversion(client: AirflowClient, run: DagRun) -> list[tuple[str, str]]:
    """Describe what a run of the arrival DAG wrote, as rows of a name and a text."""
    return [row for written in results(client, run, f"{GROUP}.write") for row in _rows(written)]


def describe_reports(client: AirflowClient, run: DagRun) -> list[tuple[str, str]]:
    """
    Tell where the web UI shows the reports of a run, as rows of a name and a text.

    :raises ReportError: When it does not show one as it was written.
    """
    rows = []
    for task in client.task_instances(run):
        report = client.xcom(task)["report"] if task.task_id == f"{GROUP}.write" else None
        if report:
            if client.report_page(task) != Path(report["html"]).read_bytes():
                raise ReportError(f"{client.report_address(task)} does not show {report['html']}.")
            rows.append(("Report", f"{client.report_address(task)} (while Airflow runs)"))
    return rows


def describe_staging(client: AirflowClient, run: DagRun, task: str, server: S3Server) -> list[tuple[str, str]]:
    """
    Describe what a staging task uploaded, as rows of a name and a text.

    :raises StagingError: When the bucket does not hold what the task reported.
    """
    return [("S3", _staged(result, server)) for result in results(client, run, task)]


def format_table(rows: Sequence[tuple[str, str]]) -> str:
    """Lay rows out, the names in a column of their own."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows)


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


def _rows(written: Result) -> list[tuple[str, str]]:
    movies = written["photon_series"]
    raw = sum(_num_bytes(movie) for movie in movies)
    size = f"{megabytes(raw)} of movies in a file of {megabytes(written['size_bytes'])}"
    rows = [("NWB file", f"{written['nwbfile_path']} ({written['backend']}): {size}")]
    for movie in movies:
        shape = " x ".join(map(str, (movie["num_samples"], *movie["sample_shape"])))
        rows.append(("Movie", f"{movie['name']}: {shape} (time, column, row) of {movie['dtype']}"))
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
