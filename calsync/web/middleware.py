"""The middleware around the whole app: known hosts, bounded bodies, security headers, request metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsync.web.errors import problem
from calsync.web.metrics import Metrics

_log = logging.getLogger("calsync")

MAX_BODY = 65_536
"""The size limit of a request's body, in bytes."""

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """ASGI middleware: accept only known hosts and bodies of up to `MAX_BODY` bytes, add `HEADERS`, and count requests.

    While the calendar is away, `age` returns the agenda's age in seconds, and every answer carries it as Age (RFC 9111,
    section 5.1).
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str], metrics: Metrics, age: Callable[[], int | None] = lambda: None
    ) -> None:
        self._app, self._metrics, self._age = app, metrics, age
        self._hosts = {*_LOOPBACK_NAMES, *(host.lower() for host in hosts)}
        self._is_known = lru_cache(maxsize=64)(self._check_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        received = 0
        answered = False
        host, length = b"", b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"content-length":
                length = value

        async def receive_measured() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(413, f"The body is longer than {MAX_BODY} bytes; send less.")
            return message

        async def send_guarded(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                if message["status"] != 304:  # the client has the headers with the answer (RFC 9110, section 15.4.5)
                    message["headers"] = [*message["headers"], *_RAW_HEADERS]
                if (age := self._age()) is not None:
                    message["headers"] = [*message["headers"], (b"age", str(age).encode())]
                self._metrics.count_request(scope["method"], message["status"], time.perf_counter() - started)
            await send(message)

        app = self._app
        if not self._is_known(host):
            app = problem(
                421,
                "unknown-host",
                "Unknown host",
                "This server does not serve this host name; see server.hosts in windows.toml.",
            )
        elif length.isdigit() and int(length) > MAX_BODY:
            app = problem(413, "too-large", "Content too large", f"The body is longer than {MAX_BODY} bytes; send less.")
        try:
            await app(scope, receive_measured, send_guarded)
        except Exception:  # a defect: the client gets a problem, and the log the traceback
            if answered:
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            failed = problem(500, "defect", "Internal error", "This is a defect of calsync; the server's log says more.")
            await failed(scope, receive, send_guarded)

    def _check_host(self, header: bytes) -> bool:
        """Return whether a Host header has a name that the server accepts."""
        try:
            name = (urlsplit(f"//{header.decode('latin-1')}").hostname or "").lower()
        except ValueError:
            return False
        return "*" in self._hosts or name in self._hosts
