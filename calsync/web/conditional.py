"""Whole answers, and the 304 for a client that has one already (RFC 9110, section 13)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from starlette.types import Message, Scope, Send

Headers = list[tuple[bytes, bytes]]

_CONDITIONS = (b"if-none-match", b"if-modified-since")
_OF_BODY = (b"content-length", b"content-type", b"last-modified")


def without_conditions(scope: Scope) -> Headers:
    """Return the headers of a request without those that allow a 304."""
    return [header for header in scope["headers"] if header[0] not in _CONDITIONS]


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer to GET: its headers, those of the 304 in its place, its validators, and its body.

    `until` is how long it stays right (aware); None if it is not kept.
    """

    headers: Headers
    unchanged: Headers
    etag: bytes | None
    modified: datetime | None
    body: bytes
    until: datetime | None

    @classmethod
    def of(cls, messages: list[Message], until: datetime | None) -> Answer:
        """Make one of what an app sent."""
        headers: Headers = list(messages[0]["headers"])
        named = dict(headers)
        return cls(
            headers,
            [header for header in headers if header[0] not in _OF_BODY],  # a 304 says nothing about a body (section 15.4.5)
            named.get(b"etag"),
            # Within the second of a change, a date cannot tell the content before it from that after it.
            _date(named.get(b"last-modified")) if until is not None else None,
            b"".join(message.get("body", b"") for message in messages[1:]),
            until,
        )

    async def send(self, scope: Scope, send: Send) -> None:
        """Answer a request with it, or with a 304."""
        known = self._is_known(scope)
        status, headers = (304, self.unchanged) if known else (200, self.headers)
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        await send({"type": "http.response.body", "body": b"" if known or scope["method"] == "HEAD" else self.body})

    def _is_known(self, scope: Scope) -> bool:
        """Return whether the client has this answer; If-None-Match goes before If-Modified-Since."""
        conditions = {name: value for name, value in scope["headers"] if name in _CONDITIONS}
        if self.etag is not None and (etags := conditions.get(b"if-none-match")) is not None:
            known = [etag.strip().removeprefix(b"W/") for etag in etags.split(b",")]
            return self.etag in known or known == [b"*"]
        since = _date(conditions.get(b"if-modified-since"))
        return self.modified is not None and since is not None and self.modified <= since


def _date(header: bytes | None) -> datetime | None:
    """Return the aware time in a header; None if there is none, or none that can be read."""
    try:
        moment: datetime = parsedate_to_datetime((header or b"").decode("latin-1"))
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo is not None else None
