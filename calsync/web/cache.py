"""One bounded cache of whole answers, in front of the routes.

A route calls `keep_until` to say how long its answer is valid. The cache keeps the answer until then, or until the content
of the agenda changes. It runs in the event loop. If many clients ask the same at once, the lock makes the app answer once.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from operator import itemgetter
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsync.schedule.agenda import Agenda
from calsync.web.conditional import Answer, without_conditions
from calsync.web.state import AppState

METHODS = {"/deployments.ics": ("GET", "HEAD"), "/rotation.ics": ("GET", "HEAD"), "/api/conflicts": ("GET",)}
MAX_ANSWERS, MAX_BYTES, MAX_QUERY = 1_024, 64 * 2**20, 1_024
Key = tuple[str, tuple[tuple[str, str], ...]]  # the path, and the query sorted by name


def keep_until(request: Request, moment: datetime) -> None:
    """Keep the answer to this request until `moment` (aware), as long as the agenda has the same content."""
    request.state.keep_until = moment


class AnswerCache:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, state: AppState) -> None:
        self._app, self._state, self._lock = app, state, asyncio.Lock()
        self._agenda: Agenda | None = None
        self._answers: dict[Key, Answer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if not self._may_keep(scope):
            await self._app(scope, receive, send)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        key = (scope["path"], tuple(sorted(query, key=itemgetter(0))))  # stable: the last value of a name still counts
        if (answer := self._get(key)) is None:
            async with self._lock:
                answer = self._get(key) or await self._call_app(key, scope, receive)
        await answer.send(scope, send)

    def _may_keep(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] not in METHODS.get(scope["path"], ()):
            return False
        is_away = self._state.failure is not None  # then JSON says how old it is
        return len(scope["query_string"]) <= MAX_QUERY and not (is_away and scope["path"].startswith("/api/"))

    def _get(self, key: Key) -> Answer | None:
        agenda = self._state.sync.agenda
        if self._agenda is None or not agenda.has_content_of(self._agenda):
            self._answers = {}
        self._agenda = agenda
        answer = self._answers.get(key)
        return answer if answer is not None and answer.until is not None and self._state.clock() < answer.until else None

    async def _call_app(self, key: Key, scope: Scope, receive: Receive) -> Answer:
        """Return the whole answer of the app, and keep it if its route says so."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        agenda, state = self._agenda, {**scope.get("state", {})}
        whole = {**scope, "method": "GET", "headers": without_conditions(scope), "state": state}
        await self._app(whole, receive, collect)
        answer = Answer.of(messages, state.get("keep_until"))
        if answer.until is not None and agenda and self._agenda and agenda.has_content_of(self._agenda):
            self._answers[key] = answer
            while len(self._answers) > MAX_ANSWERS or sum(len(kept.body) for kept in self._answers.values()) > MAX_BYTES:
                del self._answers[next(iter(self._answers))]
        return answer
