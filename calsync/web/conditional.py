"""Whole answers, and 304 for a client that already has the answer (RFC 9110, section 13)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from starlette.types import Message, Scope, Send

Headers = list[tuple[bytes, bytes]]

_CONDITIONS = (b"if-none-match", b"if-modified-since")
_OF_BODY = (b"content-length", b"content-type", b"last-modified")


def without_conditions(scope: Scope) -> Headers:
    """Return the headers of a request without its conditions, so that the answer is whole."""
    return [header for header in scope["headers"] if header[0] not in _CONDITIONS]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to GET."""

    status: int
    headers: Headers
    unchanged: Headers
    """The headers of the 304 in its place."""
    etag: bytes | None
    modified: datetime | None
    body: bytes
    until: datetime | None
    """How long it stays valid (aware); None if it must not be kept."""

    @classmethod
    def of(cls, messages: list[Message], until: datetime | None) -> Answer:
        """Make an answer from the messages that an app sent."""
        headers: Headers = list(messages[0]["headers"])
        named = dict(headers)
        return cls(
            messages[0]["status"],
            headers,
            [header for header in headers if header[0] not in _OF_BODY],  # a 304 says nothing about a body (section 15.4.5)
            named.get(b"etag"),
            # A date has whole seconds, so it cannot tell the content before a change from that after it in the same second.
            _date(named.get(b"last-modified")) if until is not None else None,
            b"".join(message.get("body", b"") for message in messages[1:]),
            until,
        )

    async def send(self, scope: Scope, send: Send) -> None:
        """Send it, or the 304 in its place."""
        status, headers, body = (self.status, self.headers, self.body)
        if self._is_current(scope):
            status, headers, body = (304, self.unchanged, b"")
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _is_current(self, scope: Scope) -> bool:
        """Return whether the client already has this answer; If-None-Match takes precedence over If-Modified-Since."""
        conditions = {name: value for name, value in scope["headers"] if name in _CONDITIONS}
        if self.etag is not None and (header := conditions.get(b"if-none-match")) is not None:
            etags = [etag.strip().removeprefix(b"W/") for etag in header.split(b",")]
            return self.etag in etags or etags == [b"*"]
        since = _date(conditions.get(b"if-modified-since"))
        return self.modified is not None and since is not None and self.modified <= since


def _date(header: bytes | None) -> datetime | None:
    """Return the time in a header (aware), or None if it is missing or invalid."""
    try:
        moment: datetime = parsedate_to_datetime((header or b"").decode("latin-1"))
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo is not None else None
