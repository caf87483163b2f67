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
"""How long a request's body may be, in bytes."""
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

RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
"""What every answer has that has a body of its own, as ASGI wants it."""


class Guard:
    """Around the app: only known Host headers, bodies of up to `MAX_BODY` bytes, security headers, and request metrics.

    While the calendar is away, `age` tells how old the agenda is, and every answer has it as Age (RFC 9111, section 5.1).
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str], metrics: Metrics, age: Callable[[], int | None] = lambda: None
    ) -> None:
        self._app, self._metrics, self._age = app, metrics, age
        self._hosts = {*_LOOPBACK_NAMES, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        started = time.perf_counter()
        received = 0
        answered = False

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
                if message["status"] != 304:  # whoever has the answer has its headers (RFC 9110, section 15.4.5)
                    given = {name for name, _ in message["headers"]}
                    message["headers"] = [*message["headers"], *(one for one in RAW_HEADERS if one[0] not in given)]
                if (age := self._age()) is not None:
                    message["headers"] = [*message["headers"], (b"age", str(age).encode())]
                self._metrics.requests.labels(_method(scope["method"]), message["status"]).inc()
                self._metrics.request_seconds.observe(time.perf_counter() - started)
            await send(message)

        length = headers.get(b"content-length", b"0")
        if not self._knows(headers.get(b"host", b"").decode("latin-1")):
            app: ASGIApp = problem(
                421,
                "unknown-host",
                "Unknown host",
                "This server is not reached under this name; see server.hosts in windows.toml.",
            )
        elif length.isdigit() and int(length) > MAX_BODY:
            app = problem(413, "too-large", "Content too large", f"The body is longer than {MAX_BODY} bytes; send less.")
        else:
            app = self._app
        try:
            await app(scope, receive_measured, send_guarded)
        except Exception:  # whatever failed, the client gets a problem and the log the rest
            if answered:
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            failed = problem(
                500, "defect", "A defect of calsync", "This should not happen; the log of the server says more."
            )
            await failed(scope, receive, send_guarded)

    def _knows(self, host: str) -> bool:
        return (name := host_name(host)) is not None and ("*" in self._hosts or name in self._hosts)


@lru_cache(maxsize=64)
def host_name(host: str) -> str | None:
    """The name in a Host header; None where there is no sense in it."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return None


def _method(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "PATCH", "DELETE") else "other"
