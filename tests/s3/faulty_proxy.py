"""A proxy between a client and the S3 server that spoils some of the requests, as networks and servers do."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

# What to do with the request of that number (from 1), given its first line: None lets it pass.
Fault = Callable[[int, bytes], str | None]


def _answer(status: str, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>What the server says of it.</Message></Error>".encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close"
    )
    return head.encode() + b"\r\n\r\n" + body


ANSWERS = {
    "500": _answer("500 Internal Server Error", "InternalError"),
    "slow down": _answer("503 Slow Down", "SlowDown"),
    "expired": _answer("400 Bad Request", "ExpiredToken"),
}


class FaultyProxy:
    """
    One request a connection, so that each meets its own fate.

    :param endpoint_url: Where the requests go.
    :param fault: ``drop`` closes the connection before the server hears of the request, ``lose`` after it
        answered; ``corrupt`` alters the last byte of the request; ``stall`` never answers; ``500``, ``slow down``
        and ``expired`` answer so.
    :param tls: The certificate that it shows, if it is to be spoken to by https.
    """

    def __init__(self, endpoint_url: str, fault: Fault, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(endpoint_url)
        self._server = (parts.hostname or "", parts.port or 80)
        self._fault = fault
        self._tls = tls
        self._numbers = itertools.count(1)
        self._closed = threading.Event()
        self.spoilt: list[str] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        scheme = "https" if self._tls else "http"
        self.endpoint_url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(60)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                client = self._tls.wrap_socket(client, server_side=True) if self._tls else client
            except OSError:  # the certificate is not trusted
                return
            self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                request = _read_message(client)
            except OSError:
                return
            if not request:
                return
            fate = self._fault(next(self._numbers), request.partition(b"\r\n")[0])
            if fate:
                self.spoilt.append(fate)
            if fate == "stall":
                self._closed.wait(30)
            elif fate in ANSWERS:
                client.sendall(ANSWERS[fate])
            elif fate != "drop":
                self._forward(client, request, fate)

    def _forward(self, client: socket.socket, request: bytes, fate: str | None) -> None:
        if fate == "corrupt":
            request = request[:-1] + bytes([request[-1] ^ 1])
        with socket.create_connection(self._server, timeout=60) as server:
            server.sendall(_closing(request))
            answer = b"".join(iter(lambda: server.recv(1 << 16), b""))
        if fate != "lose":
            client.sendall(answer)


def _closing(request: bytes) -> bytes:
    """Ask the server to close the connection after its answer, so that its end can be told."""
    line, _, rest = request.partition(b"\r\n")
    return line + b"\r\nConnection: close\r\n" + rest


def _read_message(client: socket.socket) -> bytes:
    message = b""
    while b"\r\n\r\n" not in message:
        more = client.recv(1 << 16)
        if not more:
            return b""
        message += more
    head, _, _ = message.partition(b"\r\n\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if b"transfer-encoding" in headers:  # not known here, nor to all stores
        return b""
    if headers.get(b"expect", b"").lower() == b"100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts, missing = [message], len(head) + 4 + int(headers.get(b"content-length", b"0")) - len(message)
    while missing > 0:
        more = client.recv(min(missing, 1 << 20))
        if not more:
            return b""
        parts.append(more)
        missing -= len(more)
    return b"".join(parts)
