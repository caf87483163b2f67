"""calsync in processes of its own, and the one way to wait for what other threads and processes bring about."""

import os
import re
import signal
import subprocess
import sys
import time

import httpx2

from support.samples import ROOT, TESTS

PATIENCE = 60  # seconds for what takes one: the machine may be busy


def until(condition, what, process=None, log=None):
    """What `condition` returns once that is true.

    It is a failure if that takes too long, or if `process`, which is to make it true, ends before; then the process is
    killed and waited for, and what it wrote into `log` is shown.
    """
    deadline = time.monotonic() + PATIENCE
    try:
        while not (value := condition()):
            assert process is None or process.poll() is None, f"{what}: the process ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
            time.sleep(0.02)
    except BaseException as error:
        if process is not None:
            stop(process, signal.SIGKILL)
        if log is not None:
            error.add_note(log.read_text())
        raise
    return value


def stop(process, how=signal.SIGTERM):
    """End a process, unless it has ended, and wait for it; its exit code."""
    if process.poll() is None:
        process.send_signal(how)
    return ended(process)


def ended(process):
    """The exit code of a process that ends by itself; it is killed if that takes too long."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def environment(**more):
    """The environment of a process that has calsync and the tests on its path, and none of our CALSYNC_ variables."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALSYNC_")}
    return kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", "PYTHONUNBUFFERED": "1"} | more


def calsync(folder, log, *arguments, **environ):
    """A calsync process in `folder`, with what it says in the file `log`."""
    with log.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "calsync", *arguments], cwd=folder, env=environment(**environ), stdout=said, stderr=said
        )


class Server:
    """A `calsync serve` process in `folder`, which answers once this returns."""

    def __init__(self, folder, *options, **environ):
        self.log = folder / f"server{time.monotonic_ns()}.log"
        self.process = calsync(folder, self.log, "serve", "--port", "0", *options, **environ)
        self.url = until(self._address, "the server's address", self.process, self.log)
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        until(lambda: self.client.get("/readyz").status_code == 200, "the server is ready", self.process, self.log)

    def _address(self):
        found = re.search(r"running on (http://127\.0\.0\.1:[1-9]\d*)", self.log.read_text())
        return found and found[1]

    def stop(self, how=signal.SIGTERM):
        """End it; its exit code."""
        return stop(self.process, how)

    def close(self):
        self.stop(signal.SIGKILL)
        self.client.close()
