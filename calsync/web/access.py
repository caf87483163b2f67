"""Who may do what: tokens for writing, and a guard around the whole app for browsers and for bodies out of measure."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsync.errors import Forbidden, Invalid, Unauthorized
from calsync.web.metrics import Metrics
from calsync.web.problems import problem
from calsync.web.service import TheService

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

_bearer = HTTPBearer(auto_error=False, description="A token from CALSYNC_TOKENS.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_listening(host: str, *, tokens: Iterable[str], hosts: Iterable[str]) -> None:
    """Refuse to listen where strangers could write, or where no Host header would be accepted."""
    names = [name for name in hosts if not is_loopback(name)]
    if is_loopback(host) and not names:
        return
    if not list(tokens):
        reached = host if not is_loopback(host) else names[0]
        raise Invalid(
            f"Without tokens anybody who reaches {reached} could write; set CALSYNC_TOKENS (name:token pairs), "
            "or listen on 127.0.0.1 and leave server.hosts empty."
        )
    if not names:
        raise Invalid(
            f"Say under which names calsync is reached when it listens on {host}: set server.hosts in windows.toml or "
            'CALSYNC_SERVER_HOSTS, such as ["calsync.example.org"].'
        )


async def writer(  # one that is not async would be sent through a thread
    request: Request, service: TheService, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> str | None:
    """The name whose token came with the request; None on a loopback server without tokens."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (origin is not None and not _is_same(origin, request.headers.get("host"))):
        raise Forbidden(
            "Another web site may not write through your browser; use calsync's own page, or a token and no browser."
        )
    tokens = service.config.tokens
    if not tokens:
        return None
    if given is None:
        raise Unauthorized("Writing needs a token; send it as Authorization: Bearer TOKEN.")
    # Every token is compared, so that the time tells nothing about which one was close.
    names = [
        name
        for name, token in tokens.items()
        if hmac.compare_digest(token.get_secret_value().encode(), given.credentials.encode())
    ]
    if not names:
        raise Unauthorized("This token is not known; ask whoever runs calsync for one.")
    return names[0]


def _is_same(origin: str, host: str | None) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


Writer = Annotated[str | None, Depends(writer)]


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
        return (name := _name(host)) is not None and ("*" in self._hosts or name in self._hosts)


@lru_cache(maxsize=64)
def _name(host: str) -> str | None:
    """The name in a Host header; None where there is no sense in it."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return None


def _method(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "PATCH", "DELETE") else "other"
