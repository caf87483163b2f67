"""One bounded cache of whole answers, in front of the routes.

A route calls `keep_until` to say how long its answer is valid. The cache keeps the answer until then, or until the content
of the agenda changes. It runs in the event loop. If many clients ask the same at once, the lock makes the app answer once.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsync.schedule.agenda import Agenda
from calsync.web.conditional import Answer, without_conditions
from calsync.web.state import AppState

METHODS = {"/deployments.ics": ("GET", "HEAD"), "/rotation.ics": ("GET", "HEAD"), "/api/conflicts": ("GET",)}
MAX_ANSWERS, MAX_BYTES = 1_024, 64 * 2**20

Key = tuple[str, bool, tuple[tuple[str, str], ...]]  # path, whether the calendar answers, sorted query


def keep_until(request: Request, moment: datetime) -> None:
    """Keep the answer to this request until `moment` (aware), as long as the agenda has the same content."""
    request.state.keep_until = moment


class AnswerCache:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, state: AppState) -> None:
        self._app, self._state = app, state
        self._lock = asyncio.Lock()
        self._agenda: Agenda | None = None
        self._answers: dict[Key, Answer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http" or scope["method"] not in METHODS.get(scope["path"], ()):
            await self._app(scope, receive, send)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        key = (scope["path"], self._state.failure is None, tuple(sorted(query)))
        if (answer := self._get(key)) is None:
            async with self._lock:
                answer = self._get(key) or await self._call_app(key, scope, receive, send)
        if answer is not None:
            await answer.send(scope, send)

    def _get(self, key: Key) -> Answer | None:
        agenda = self._state.sync.agenda
        if self._agenda is None or not agenda.has_content_of(self._agenda):
            self._answers = {}
        self._agenda = agenda
        answer = self._answers.get(key)
        return answer if answer is not None and answer.until is not None and self._state.clock() < answer.until else None

    async def _call_app(self, key: Key, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """Call the app for a whole answer and return it. Pass anything but a success on and return None."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        agenda, state = self._agenda, {**scope.get("state", {})}
        request = {**scope, "method": "GET", "headers": without_conditions(scope), "state": state}
        await self._app(request, receive, collect)
        if messages[0]["status"] != 200:
            for message in messages:
                await send(message)
            return None
        answer = Answer.of(messages, state.get("keep_until"))
        if answer.until is not None and agenda is self._agenda and len(answer.body) <= MAX_BYTES:
            self._answers[key] = answer
            while len(self._answers) > MAX_ANSWERS or sum(len(kept.body) for kept in self._answers.values()) > MAX_BYTES:
                del self._answers[next(iter(self._answers))]
        return answer
