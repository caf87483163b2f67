"""Server processes on loopback, and the requests that the rows send to them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench import ROOT, Scale
from benchmarks.results import Pairs, measure_pairs

CONNECTIONS = 8
START = 900
"""The seconds in which a server must answer: the largest calendars take a while to read."""


class Answer(NamedTuple):
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Connection:
    """A connection to a server on loopback that is kept alive."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=START)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", 1 << 20)

    def send(self, request: bytes) -> None:
        """Send a request; the one before it must have been answered."""
        self._socket.sendall(request)

    def receive(self) -> Answer:
        """Wait for the answer, which must say how long it is."""
        status = int(self._file.readline()[9:12] or 0)
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if not status:
            raise ConnectionError("The server closed the connection.")
        size = 0 if status == 304 else int(headers[b"content-length"])
        return Answer(status, headers, self._file.read(size))

    def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its answer."""
        self.send(request)
        return self.receive()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def get(path: str, etag: bytes = b"") -> bytes:
    """Return a GET request, with If-None-Match for an etag."""
    condition = b"If-None-Match: " + etag + b"\r\n" if etag else b""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + condition + b"\r\n"


def post(path: str, body: bytes) -> bytes:
    """Return a POST request with a JSON body."""
    headers = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}".encode() + body


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `started` is how many seconds it took until it was ready."""

    port: int
    pid: int
    started: float

    def ask(self, request: bytes) -> Answer:
        """Send one request over a connection of its own."""
        with closing(Connection(self.port)) as connection:
            return connection.ask(request)

    def processor_seconds(self) -> float:
        """Return the processor time that the server has used so far."""
        return time.clock_gettime(~self.pid << 3 | 2)  # the clock of clock_getcpuclockid(3)


class Load:
    """Keeps several connections to a server busy with one request; call it for the processor time of an answer."""

    def __init__(self, stack: ExitStack, server: Server, request: bytes, status: int, duration: float) -> None:
        self._server, self._request, self._status, self._duration = server, request, status, duration
        self._connections = [stack.enter_context(closing(Connection(server.port))) for _ in range(CONNECTIONS)]
        self()  # warms it up

    def __call__(self) -> float:
        before, until, answers = self._server.processor_seconds(), time.perf_counter() + self._duration, 0
        while time.perf_counter() < until:
            for connection in self._connections:
                connection.send(self._request)
            for connection in self._connections:
                assert connection.receive().status == self._status
            answers += CONNECTIONS
        return (self._server.processor_seconds() - before) / answers


def compare(scale: Scale, bare: tuple[Server, bytes], ours: tuple[Server, bytes], status: int = 200) -> Pairs:
    """Compare the processor time of an answer of two servers, each with its request."""
    with ExitStack() as stack:
        sides = [Load(stack, *side, status, scale.burst) for side in (bare, ours)]
        return measure_pairs(4 * scale.runs, *sides)


@contextmanager
def run(name: str, folder: Path) -> Iterator[Server]:
    """Run one of `benchmarks.apps` in `folder` until the context ends; it is ready when the context begins."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    log = folder / f"{port}.log"
    started = time.perf_counter()
    with log.open("wb") as output:
        command = [sys.executable, "-m", "benchmarks.apps", name, str(port)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=environment)
    try:
        while not _ready(port):
            if process.poll() is not None or time.perf_counter() > started + START:
                raise RuntimeError(f"{name} does not start: {log.read_text()[-2000:]}")
            time.sleep(0.002)
        yield Server(port, process.pid, time.perf_counter() - started)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(port: int) -> bool:
    try:
        with closing(Connection(port)) as connection:
            return connection.ask(get("/readyz")).status in (200, 404)  # the bare apps have no such route
    except OSError:
        return False
