"""One bounded cache of whole answers, in front of the routes.

Subscribers and bots ask the same again and again, and the same agenda gives the same answer. A route says with `keep_until`
for how long its answer is right; the cache keeps it until then, or until the content of the agenda changes. It lives in the
event loop, so only asking the app needs its lock: of many that ask for the same at once, one waits for the app.
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

Key = tuple[str, bool, tuple[tuple[str, str], ...]]  # the path, whether the calendar is here, and the query in one order


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
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http" or scope["method"] not in METHODS.get(scope["path"], ()):
            await self._app(scope, receive, send)
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        key = (scope["path"], self._state.failure is None, tuple(sorted(query)))
        if (answer := self._get(key)) is None:
            async with self._lock:
                answer = self._get(key) or await self._ask(key, scope, receive, send)
        if answer is not None:
            await answer.send(scope, send)

    def _get(self, key: Key) -> Answer | None:
        agenda = self._state.sync.agenda
        if self._agenda is None or not agenda.has_content_of(self._agenda):
            self._answers, self._bytes = {}, 0
        self._agenda = agenda
        answer = self._answers.get(key)
        return answer if answer is not None and answer.until is not None and self._state.clock() < answer.until else None

    async def _ask(self, key: Key, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """Have the app answer in full; None for anything but a success, which goes out as it is."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        agenda, noted = self._agenda, {**scope.get("state", {})}
        asked = {**scope, "method": "GET", "headers": without_conditions(scope), "state": noted}
        await self._app(asked, receive, collect)
        if messages[0]["status"] != 200:
            for message in messages:
                await send(message)
            return None
        answer = Answer.of(messages, noted.get("keep_until"))
        if answer.until is not None and agenda is self._agenda and len(answer.body) <= MAX_BYTES:
            self._bytes += len(answer.body) - len(self._answers[key].body if key in self._answers else b"")
            self._answers[key] = answer
            while len(self._answers) > MAX_ANSWERS or self._bytes > MAX_BYTES:
                self._bytes -= len(self._answers.pop(next(iter(self._answers))).body)
        return answer
