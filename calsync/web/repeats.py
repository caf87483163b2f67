"""Around the app: gives an answer again that was given to the same question before, for as long as it stays right.

Subscribers and bots ask the same again and again, and most answers depend on nothing but the agenda. What a route lets the
service remember is kept as it went out, and goes out again before the app is asked. Everything out of the ordinary, such as
a list of etags or a calendar that is away, is left to the app.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsync.web.state import AppState

_PATHS = {"/deployments.ics": ("GET", "HEAD"), "/api/conflicts": ("GET",)}


_HOSTS = 64
"""How many names of the server are kept in mind; with `*` they come from outside."""


class Repeats:
    """The ASGI middleware; `always` are the headers that every answer has but a 304."""

    def __init__(self, app: ASGIApp, *, state: AppState, always: Sequence[tuple[bytes, bytes]]) -> None:
        self._app, self._state, self._always = app, state, list(always)
        self._hosts: set[bytes] = set()
        requests = state.metrics.requests
        self._count = {
            (method, status): requests.labels(method, status).inc for method in ("GET", "HEAD") for status in (200, 304)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http" or scope["method"] not in _PATHS.get(scope["path"], ()):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        host = known = since = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"if-none-match":
                known = value
            elif name == b"if-modified-since":
                since = value
        answer = self._state.repeat(scope["path"].encode(), scope["query_string"]) if host in self._hosts else None
        conditional = answer is not None and answer.etag is not None and (known is not None or since is not None)
        if answer is None or (conditional and known != answer.etag):
            await self._ask(scope, receive, send, host)
            return
        status, headers, body = 200, answer.headers + self._always, answer.body
        if conditional:
            status, headers, body = 304, answer.fresh, b""
        elif scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._count[scope["method"], status]()
        self._state.metrics.request_seconds.observe(time.perf_counter() - started)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, host: bytes | None) -> None:
        """Let the app answer, and take note of a host that it accepts."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304) and host is not None:
                if len(self._hosts) >= _HOSTS:
                    self._hosts.clear()
                self._hosts.add(host)
            await send(message)

        await self._app(scope, receive, noting)
