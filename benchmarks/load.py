"""A load generator: a process that keeps connections busy with one request, and says how many answers came.

It reads no more of an answer than where it ends, so that one core of it outruns any server of one process; how much of its
time it was busy tells whether it was ever what one waited for.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of a burst: answers, how many of them with the status that was expected, bytes, seconds and CPU seconds."""

    answers: int
    expected: int
    size: int
    seconds: float
    busy: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


class Line:
    """One connection to a server on loopback, kept alive as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._buffer = bytearray(1 << 20)
        self.sock = self._connect()
        self._start()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=600)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _start(self) -> None:
        self._head = b""
        self._body: list[bytes] | None = None
        self._missing = -1
        self.status = self.size = 0
        self.head = b""
        self._closes = False

    def send(self, request: bytes) -> None:
        self._start()
        self.sock.sendall(request)

    def receive(self, *, keep: bool = False) -> bool:
        """Take in what has come; whether the answer is whole now."""
        if self.status and not keep:  # Linux drops what nobody reads, instead of copying it
            count = self.sock.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        else:
            count = self.sock.recv_into(self._buffer, 0 if self.status else 4096)
        self.size += count
        if count == 0:
            if not self.status or self._missing > 0:
                raise ConnectionError(f"the answer of {self._port} ended early: {self._head[:200]!r}")
            self._missing = 0
        elif self.status:
            self._missing -= count if self._missing > 0 else 0
            if keep and self._body is not None:
                self._body.append(bytes(self._buffer[:count]))
        else:
            self._head += bytes(memoryview(self._buffer)[:count])
            self._read_head()
        if self.status and self._missing == 0:
            if self._closes or count == 0:
                self.renew()
            return True
        return False

    def _read_head(self) -> None:
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        lowered = head.lower()
        self.status, self.head = int(head[9:12]), head
        self._body = [rest]
        self._closes = head.startswith(b"HTTP/1.0") or b"\r\nconnection: close" in lowered
        _, found, length = lowered.partition(b"\r\ncontent-length:")
        if self.status in (204, 304):
            self._missing = 0
        elif found:
            self._missing = int(length.partition(b"\r\n")[0]) - len(rest)
        elif not self._closes:
            raise ConnectionError(f"the answer of {self._port} does not say how long it is: {head[:200]!r}")

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        self.send(request)
        while not self.receive(keep=True):
            pass
        return self.status, b"".join(self._body or [])

    def renew(self) -> None:
        """Connect anew: servers hang up on those who are silent for a few seconds."""
        self.sock.close()
        self.sock = self._connect()

    def close(self) -> None:
        self.sock.close()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP request; underscores in the names of headers stand for hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def burst(port: int, asked: bytes, status: int, duration: float, connections: int = CONNECTIONS) -> Burst:
    """Keep so many connections busy with one request for `duration` seconds."""
    lines = [Line(port) for _ in range(connections)]
    poll = select.epoll()
    by_number = {}
    for line in lines:
        line.send(asked)
        poll.register(line.sock, select.EPOLLIN)
        by_number[line.sock.fileno()] = line
    answers = expected = size = 0
    started, busy = time.perf_counter(), time.process_time()
    until = started + duration
    while time.perf_counter() < until:
        for number, _ in poll.poll(1):
            line = by_number[number]
            if not line.receive():
                continue
            answers, expected, size = answers + 1, expected + (line.status == status), size + line.size
            if line.sock.fileno() not in by_number or by_number[line.sock.fileno()] is not line:
                by_number[line.sock.fileno()] = line
                poll.register(line.sock, select.EPOLLIN)
            line.send(asked)
    took, busy = time.perf_counter() - started, time.process_time() - busy
    poll.close()
    for line in lines:
        line.close()
    return Burst(answers, expected, size, took, busy)


class Load:
    """The generator as a process of its own; a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def burst(self, port: int, asked: bytes, status: int, duration: float, connections: int = CONNECTIONS) -> Burst:
        """As `burst`; an answer with another status is a defect of the benchmark, and raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([port, asked.decode(), status, duration, connections]) + "\n")
        self._process.stdin.flush()
        found = Burst(**json.loads(self._process.stdout.readline()))
        if not found.answers or found.answers != found.expected:
            raise AssertionError(f"{found.expected} of {found.answers} answers had status {status}: {asked[:200]!r}")
        return found


def main() -> None:
    for job in sys.stdin:
        port, asked, status, duration, connections = json.loads(job)
        print(json.dumps(asdict(burst(port, asked.encode(), status, duration, connections))), flush=True)


if __name__ == "__main__":
    main()
