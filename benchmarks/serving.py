"""Server processes on loopback, each stopped by its process id when its context ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import CONNECTIONS, Line, Load, request
from benchmarks.rows import Paired, paired, spoken
from benchmarks.stage import Scale

ROOT = Path(__file__).parent.parent
PATIENCE = 900
"""In how many seconds a server must answer: the largest calendars take a while to read."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at `port`, and how many seconds it took until it did."""

    port: int
    process: subprocess.Popen[bytes]
    started: float

    def busy(self) -> float:
        """The CPU seconds that it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @contextmanager
    def line(self) -> Iterator[Line]:
        """A connection to it."""
        line = Line(self.port)
        try:
            yield line
        finally:
            line.close()


@contextmanager
def serving(
    command: Sequence[str | Path], port: int, folder: Path, ready: str = "/", status: int = 200
) -> Iterator[Server]:
    """A command that serves on `port`, once it answers `status` (0: anything) at the path `ready`."""
    log = folder / f"{port}.log"
    started = time.perf_counter()
    with log.open("wb") as said:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
    try:
        while not _answers(port, ready, status):
            if process.poll() is not None or time.perf_counter() > started + PATIENCE:
                raise RuntimeError(f"{command} does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.002)
        yield Server(port, process, time.perf_counter() - started)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def app(name: str, folder: Path) -> Iterator[Server]:
    """One of `benchmarks.apps` behind its uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.apps", name, str(port), str(folder)]
    ready = {"calsync": "/readyz", "starlette": "/unchanged", "fastapi": "/conflicts"}[name]
    with serving(command, port, folder, ready, 304 if name == "starlette" else 200) as server:
        yield server


@contextmanager
def calsync(folder: Path) -> Iterator[Server]:
    """`calsync serve` as it is, with the windows.toml in `folder`."""
    port = free_port()
    with serving([sys.executable, "-m", "calsync", "serve", "--port", str(port)], port, folder, "/readyz") as server:
        yield server


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _answers(port: int, path: str, status: int) -> bool:
    try:
        line = Line(port)
    except OSError:
        return False
    try:
        return line.ask(request("GET", path))[0] in ({status} if status else range(100, 500))
    except OSError:
        return False
    finally:
        line.close()


class Compared:
    """The throughput of two servers for one request each, measured in turns of one burst."""

    def __init__(self, load: Load, scale: Scale) -> None:
        self._load, self._scale = load, scale
        self.cpu: tuple[float, float] = (0.0, 0.0)
        self._busiest = 0.0

    def run(
        self, ours: Server, asked: bytes, theirs: Server, theirs_asked: bytes, *, status: int = 200, runs: int | None = None
    ) -> Paired:
        """Answers a second of the one to those of the other."""
        busy, answers = {ours.port: 0.0, theirs.port: 0.0}, {ours.port: 0, theirs.port: 0}
        self._busiest = 0.0

        def one(server: Server, request: bytes) -> float:
            before = server.busy()
            found = self._load.burst(server.port, request, status, self._scale.burst)
            busy[server.port] += server.busy() - before
            answers[server.port] += found.answers
            self._busiest = max(self._busiest, found.busy / found.seconds)
            return found.rate

        one(ours, asked)
        one(theirs, theirs_asked)
        runs = runs or 2 * self._scale.runs
        measured = paired(runs, lambda: one(ours, asked), lambda: one(theirs, theirs_asked))
        self.cpu = (busy[ours.port] / answers[ours.port], busy[theirs.port] / answers[theirs.port])
        return measured

    def said(self, measured: Paired) -> str:
        """The figures behind the last ratio, in words."""
        ours, theirs = self.cpu
        spare = "" if self._busiest <= 0.5 else ", so that it may have been what one waited for"
        return (
            f"{measured.above:,.0f} to {measured.below:,.0f} answers a second on {CONNECTIONS} connections; "
            f"{measured.spread}; "
            f"{spoken(ours)} to {spoken(theirs)} of CPU each, by which it would be {theirs / ours:.2f}; "
            f"the generator was busy {self._busiest:.0%} of the time{spare}"
        )
