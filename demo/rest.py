"""
A small client of Airflow's public REST API (``/api/v2``), on the standard library alone.

It knows what the demonstration and the end-to-end test ask: runs, their tasks, results, logs, and starting a run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

# What json.load gives; the shape is the API's.
type Json = Any
# Query parameters, or a JSON body.
type Fields = Mapping[str, Any] | None

# Airflow cuts longer pages silently ([api] maximum_page_limit).
PAGE_SIZE = 100
# What every line of a task's log repeats.
LOG_PLUMBING = frozenset(
    {"timestamp", "event", "level", "logger", "error_detail", "filename", "lineno", "loc", "ti", "ti_id"}
    | {"dag_id", "run_id", "task_id", "map_index", "try_number"}
)
FINISHED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class AirflowApiError(RuntimeError):
    """The REST API refused a request or could not be reached."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    run_type: str
    state: str

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        return cls(
            dag_id=entry["dag_id"],
            run_id=entry["dag_run_id"],
            run_type=entry["run_type"],
            state=entry["state"],
        )

    @property
    def finished(self) -> bool:
        return self.state in {"success", "failed"}


@dataclass(frozen=True, kw_only=True)
class TaskInstance:
    """
    One task of a run; ``map_index`` is -1 unless it is mapped, ``state`` is None before it is scheduled, and
    ``name`` is by which a mapped one is shown in Airflow's lists.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    seconds: float | None
    name: str | None = None

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        return cls(
            dag_id=entry["dag_id"],
            run_id=entry["dag_run_id"],
            task_id=entry["task_id"],
            map_index=entry["map_index"],
            state=entry["state"],
            try_number=entry["try_number"],
            seconds=entry["duration"],
            name=entry.get("rendered_map_index"),
        )

    @property
    def label(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.name or self.map_index}]"

    @property
    def finished(self) -> bool:
        return self.state in FINISHED_STATES


class AirflowClient:
    """
    Talk to one API server with the simple auth manager.

    :param base_url: Address of the API server, such as ``http://127.0.0.1:8080``.
    :param timeout: Seconds that one request may take.
    :param credentials: Name and password. Default: the server takes everyone for an administrator.
    """

    def __init__(self, base_url: str, *, timeout: float = 30, credentials: tuple[str, str] | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self._credentials = credentials
        self._token = ""
        # A proxy of the environment cannot reach this machine's own 127.0.0.1.
        self._opener = build_opener(ProxyHandler({}))

    def api(self, method: str, path: str, *, query: Fields = None, body: Fields = None) -> Json:
        """
        Send one request below ``/api/v2`` and give the decoded answer.

        :param method: HTTP method.
        :param path: Path below ``/api/v2``, its parts already quoted.
        :param query: Query parameters.
        :param body: JSON body.
        :raises AirflowApiError: When the server cannot be reached or answers with an error status.
        """
        if not self._token:
            self.log_in()
        try:
            return self._send(method, f"/api/v2{path}", query=query, body=body)
        except AirflowApiError as error:
            # A token lives a day, a stack that stays may live longer.
            if error.status == HTTPStatus.UNAUTHORIZED:
                self.log_in()
            # On SQLite. Airflow notes each action, before it is done, in the loop in which the request that has
            # the database's lock has to go on; after SQLite's 5 s it gives up, and nothing was done.
            elif error.status != HTTPStatus.INTERNAL_SERVER_ERROR or "Database error" not in str(error):
                raise
            return self._send(method, f"/api/v2{path}", query=query, body=body)

    def log_in(self) -> str:
        """Get a new token, and return it."""
        self._token = ""
        if self._credentials is None:
            answer = self._send("GET", "/auth/token")
        else:
            username, password = self._credentials
            answer = self._send("POST", "/auth/token", body={"username": username, "password": password})
        self._token = answer["access_token"]
        return self._token

    def health(self) -> dict[str, str]:
        """Give the state of each component, by its name in the health report (no token needed)."""
        report = self._send("GET", "/api/v2/monitor/health")
        return {name: state["status"] or "not started" for name, state in report.items() if state}

    def dag_ids(self) -> list[str]:
        """List the DAGs that the server knows."""
        return [entry["dag_id"] for entry in self._pages("/dags", "dags")]

    def import_errors(self) -> dict[str, str]:
        """Give the traceback of each DAG file that could not be imported."""
        return {entry["filename"]: entry["stack_trace"] for entry in self._pages("/importErrors", "import_errors")}

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a run."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return DagRun.from_json(self.api("POST", f"/dags/{quote(dag_id, safe='')}/dagRuns", body=body))

    def dag_run(self, dag_id: str, run_id: str) -> DagRun:
        """Look at one run."""
        return DagRun.from_json(self.api("GET", _run_path(dag_id, run_id)))

    def dag_runs(self, dag_id: str = "~") -> list[DagRun]:
        """List the runs of one DAG, or with ``~`` of all of them, the oldest first."""
        pages = self._pages(f"/dags/{quote(dag_id, safe='~')}/dagRuns", "dag_runs", order_by="id")
        return [DagRun.from_json(entry) for entry in pages]

    def wait_for_run(self, run: DagRun, *, timeout: float, interval: float = 0.5) -> DagRun:
        """
        Wait until a run has finished.

        :raises TimeoutError: When it has not after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (run := self.dag_run(run.dag_id, run.run_id)).finished:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Run {run.run_id} of {run.dag_id} is still {run.state} after {timeout:g} s.")
            time.sleep(interval)
        return run

    def task_instances(self, run: DagRun) -> list[TaskInstance]:
        """List the tasks of a run, in the order in which they started."""
        pages = self._pages(f"{_run_path(run.dag_id, run.run_id)}/taskInstances", "task_instances")
        found = [(entry["start_date"] or "~", TaskInstance.from_json(entry)) for entry in pages]
        return [task for _, task in sorted(found, key=lambda pair: pair[0])]

    def xcom(self, task: TaskInstance, *, key: str = "return_value") -> Json:
        """Give what a task returned, as plain JSON values."""
        entry = self.api(
            "GET",
            f"{_task_path(task)}/xcomEntries/{quote(key, safe='')}",
            query={"map_index": task.map_index, "deserialize": False},
        )
        return entry["value"]

    def page(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """Give one of the plugin's pages: ``""``, ``sessions.csv``, ``trends`` ..."""
        if not self._token:
            self.log_in()
        return self._ask("GET", f"/ophys/{path}", query=query)

    def report_page(self, task: TaskInstance) -> bytes:
        """Give the page with the report of a task, as the web UI shows it."""
        return self.page("report/document", _task_query(task))

    def report_address(self, task: TaskInstance) -> str:
        """Tell where the web UI shows the report of a task."""
        run = f"/dags/{quote(task.dag_id, safe='')}/runs/{quote(task.run_id, safe='')}"
        mapped = f"/mapped/{task.map_index}" if task.map_index >= 0 else ""
        return f"{self.base_url}{run}/tasks/{quote(task.task_id, safe='')}{mapped}/plugin/ophys-report"

    def task_links(self, task: TaskInstance) -> dict[str, str | None]:
        """Give the addresses of the buttons beside a task, by what is written on them."""
        path = f"{_task_path(task)}/links"
        links: dict[str, str | None] = self.api("GET", path, query={"map_index": task.map_index})["extra_links"]
        return links

    def task_log(self, task: TaskInstance) -> list[str]:
        """Give the log of a task's last attempt, one line per event."""
        answer = self.api(
            "GET",
            f"{_task_path(task)}/logs/{max(task.try_number, 1)}",
            query={"map_index": task.map_index, "full_content": True},
        )
        return [line for event in answer["content"] for line in _log_lines(event)]

    def _pages(self, path: str, key: str, **query: Json) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = self.api("GET", path, query={"limit": PAGE_SIZE, "offset": len(found), **query})
            found += answer[key]
            if not answer[key] or len(found) >= answer["total_entries"]:
                return found

    def _send(self, method: str, path: str, *, query: Fields = None, body: Fields = None) -> Json:
        try:
            return json.loads(self._ask(method, path, query=query, body=body))
        except ValueError as error:
            raise AirflowApiError(f"{method} {path}: the answer is no JSON: {error}") from error

    def _ask(self, method: str, path: str, *, query: Fields = None, body: Fields = None) -> bytes:
        url = f"{self.base_url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data=data, headers=headers, method=method)  # noqa: S310 -- base_url is http
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            detail = error.read().decode(errors="replace")[:500]
            raise AirflowApiError(f"{method} {path}: {error.code} {error.reason}: {detail}", error.code) from error
        except (URLError, OSError) as error:
            raise AirflowApiError(f"{method} {url}: {error}") from error


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _task_query(task: TaskInstance) -> dict[str, str | int]:
    return {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
    }


def _task_path(task: TaskInstance) -> str:
    return f"{_run_path(task.dag_id, task.run_id)}/taskInstances/{quote(task.task_id, safe='')}"


def _log_lines(event: Json) -> list[str]:
    """Turn one log event, with the traceback it may carry, into plain lines."""
    if isinstance(event, str):
        return event.splitlines()
    if event["event"].startswith(("::group::", "::endgroup::")):
        return []
    details = " ".join(f"{name}={value}" for name, value in event.items() if name not in LOG_PLUMBING)
    lines = event["event"].splitlines() or [""]
    lines[0] = f"{event.get('level') or 'info':<8}{lines[0]}" + (f"  [{details}]" if details else "")
    for error in event.get("error_detail") or []:
        frames = [f"    {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error["frames"]]
        lines += [*frames, f"  {error['exc_type']}: {error['exc_value']}"]
    return lines
