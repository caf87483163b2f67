"""A limit in time for what is done on a connection, where its library limits each wait on the network, or none."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any


@contextmanager
def bounded(connection: Any, patience: timedelta | None) -> Iterator[None]:
    """Cut a connection (what has a `fileno`) if what is done here is not over when `patience` is; None waits for ever."""
    if patience is None:
        yield
        return
    with contextlib.closing(socket.socket(fileno=os.dup(connection.fileno()))) as line:
        timer = threading.Timer(patience.total_seconds(), _cut, [line])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _cut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it ended by itself
        line.shutdown(socket.SHUT_RDWR)
