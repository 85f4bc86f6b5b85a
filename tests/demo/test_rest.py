"""The client asks for a token, turns pages, and says what the server answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from demo.rest import AirflowApiError, AirflowClient, TaskInstance

NUM_DAGS = 130


class FakeAirflow(HTTPServer):
    """An API server with many DAGs, whose tokens can be made to expire."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeAirflowHandler)
        self.tokens_given = 0
        self.locked = 0


class FakeAirflowHandler(BaseHTTPRequestHandler):
    server: FakeAirflow

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/auth/token":
            self.server.tokens_given += 1
            self.answer(201, {"access_token": f"token{self.server.tokens_given}"})
        elif self.headers["Authorization"] != f"Bearer token{self.server.tokens_given}":
            self.answer(401, {"detail": "Invalid JWT token"})
        elif url.path == "/api/v2/dags":
            query = {name: int(values[0]) for name, values in parse_qs(url.query).items()}
            dags = [{"dag_id": f"dag{number}"} for number in range(NUM_DAGS)]
            page = dags[query["offset"] : query["offset"] + query["limit"]]
            self.answer(200, {"dags": page, "total_entries": NUM_DAGS})
        elif url.path == "/ophys/report/document":
            self.answer(200, {name: values for name, (values,) in parse_qs(url.query).items()})
        else:
            self.answer(404, {"detail": "no such thing"})

    def do_POST(self) -> None:
        if self.server.locked:
            self.server.locked -= 1
            self.answer(500, {"detail": {"reason": "Database error"}})
        else:
            self.answer(201, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, status: int, body: dict[str, object]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[FakeAirflow]:
    with FakeAirflow() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server: FakeAirflow) -> AirflowClient:
    return AirflowClient(f"http://127.0.0.1:{server.server_port}")


def test_all_pages_are_read(client: AirflowClient) -> None:
    assert client.dag_ids() == [f"dag{number}" for number in range(NUM_DAGS)]


def test_expired_token_is_renewed(client: AirflowClient, server: FakeAirflow) -> None:
    client.dag_ids()
    server.tokens_given += 1
    assert len(client.dag_ids()) == NUM_DAGS


def test_what_was_not_done_as_the_database_was_locked_is_asked_for_again(
    client: AirflowClient, server: FakeAirflow
) -> None:
    server.locked = 1
    assert client.api("POST", "/variables", body={"key": "a"}) == {"key": "a"}
    server.locked = 2
    with pytest.raises(AirflowApiError, match="500 .*Database error"):
        client.api("POST", "/variables", body={"key": "a"})


def test_error_names_the_request_and_the_answer(client: AirflowClient) -> None:
    with pytest.raises(AirflowApiError, match=r"GET /api/v2/dags/a%2Fb/dagRuns/r: 404 .*no such thing") as caught:
        client.dag_run("a/b", "r")
    assert caught.value.status == 404


def test_unreachable_server_is_named() -> None:
    with pytest.raises(AirflowApiError, match=r"GET http://127.0.0.1:9/api/v2/monitor/health: .*refused"):
        AirflowClient("http://127.0.0.1:9").health()


def test_label_tells_mapped_tasks_apart() -> None:
    entry = {"dag_id": "d", "dag_run_id": "r", "task_id": "t", "state": None, "try_number": 0, "duration": None}
    assert TaskInstance.from_json(entry | {"map_index": -1}).label == "t"
    assert TaskInstance.from_json(entry | {"map_index": 3}).label == "t[3]"
    assert TaskInstance.from_json(entry | {"map_index": 3, "rendered_map_index": "m1"}).label == "t[m1]"


def test_report_of_a_mapped_task_is_asked_for_and_linked(client: AirflowClient) -> None:
    task = TaskInstance(
        dag_id="a/b", run_id="r+1", task_id="t", map_index=2, state="success", try_number=1, seconds=1.0
    )
    assert json.loads(client.report_page(task)) == {
        "dag_id": "a/b",
        "run_id": "r+1",
        "task_id": "t",
        "map_index": "2",
    }
    assert client.report_address(task).endswith("/dags/a%2Fb/runs/r%2B1/tasks/t/mapped/2/plugin/ophys-report")
