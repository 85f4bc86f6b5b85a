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
GROUP = "convert"


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
    return str(results(client, run, f"{GROUP}.write_imaging")[0]["nwbfile_path"])


def report_path(client: AirflowClient, run: DagRun) -> str:
    """
    Give the path of the report of the first file that a run wrote.

    :raises ReportError: When the task that should have made it could not.
    """
    movie = results(client, run, f"{GROUP}.write_imaging")[0]
    if movie["report"] is None:
        raise ReportError(f"There is no report of {movie['nwbfile_path']}: {movie['report_problem']}")
    return str(movie["report"]["html"])


def describe_arrival(folder: Path) -> list[tuple[str, str]]:
    """Describe an acquisition's folder, as rows of a name and a text."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [("Arrived", f"{folder}: {len(files)} files, {megabytes(sum(file.stat().st_size for file in files))}")]


def describe_conversion(client: AirflowClient, run: DagRun) -> list[tuple[str, str]]:
    """Describe what a run of the arrival DAG wrote, as rows of a name and a text."""
    movies = results(client, run, f"{GROUP}.write_imaging")
    segmentations = results(client, run, f"{GROUP}.write_segmentation")
    return [
        *(row for movie in movies for row in _movie_rows(movie)),
        *(row for segmentation in segmentations for row in _segmentation_rows(segmentation)),
    ]


def describe_reports(client: AirflowClient, run: DagRun) -> list[tuple[str, str]]:
    """
    Tell where the web UI shows the reports of a run, as rows of a name and a text.

    :raises ReportError: When it does not show one as it was written.
    """
    rows = []
    for task in client.task_instances(run):
        report = client.xcom(task)["report"] if task.task_id == f"{GROUP}.write_imaging" else None
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


def _movie_rows(movie: Result) -> list[tuple[str, str]]:
    shape = [movie["num_samples"], *movie["sample_shape"]]
    raw, stored = int(np.prod(shape)) * np.dtype(movie["dtype"]).itemsize, movie["size_bytes"]
    size = f"{megabytes(raw)} in {megabytes(stored)}, {raw / stored:.2f} times smaller"
    return [
        ("NWB file", f"{movie['nwbfile_path']} ({movie['backend']})"),
        ("Movie", f"{' x '.join(map(str, shape))} (time, column, row) of {movie['dtype']}: {size}"),
        ("", _effort(movie)),
    ]


def _segmentation_rows(segmentation: Result) -> list[tuple[str, str]]:
    size = f"the file is now {megabytes(segmentation['size_bytes'])}"
    return [
        ("Segmentation", f"{segmentation['num_rois']} ROIs, traces {', '.join(segmentation['traces'])}; {size}"),
        ("", _effort(segmentation)),
    ]


def _effort(result: Result) -> str:
    if result["reused"]:
        return f"reused, it was there already; {result['validation']}"
    return (
        f"{result['elapsed_seconds']:.1f} s, {result['throughput_mb_per_s']:.0f} MB/s, "
        f"peak memory {megabytes(result['peak_memory_bytes'])}; {result['validation']}"
    )
