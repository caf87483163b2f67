"""What a CalDAV server can do, found out by trying, because its name does not tell.

The trial events lie in the year 2000, are transparent, and are removed in the end.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from icalendar import Calendar, Event

from calsync.calendars.base import Capability
from calsync.core.errors import CalendarError, Unreachable
from calsync.core.properties import MARK, PRODID

ROUNDS = 4
"""How many times two writers race each other, because a server that fails does not fail every time."""

_LONG_TITLE = "Where lines are folded: " + 40 * "\N{STEAM LOCOMOTIVE}"


@dataclass(frozen=True, slots=True)
class Response:
    """A server's response: the status, the etag (with its quotes), and the body."""

    status: int
    etag: str
    body: bytes

    @property
    def is_success(self) -> bool:
        """Return whether the server did what was asked."""
        return 200 <= self.status < 300


Send = Callable[[str, str, bytes, Mapping[str, str]], Response]
"""Sends a method with an href, a body and headers."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The capabilities of conditional writes, and of keeping what is written."""

    preconditions: tuple[Capability, ...]
    content: tuple[Capability, ...]


def probe(prefix: str, send: Send) -> Findings:
    """Try a server out with `send`, at hrefs that begin with `prefix`; raise the calendar's errors.

    Raise `Unreachable` if the server fails meanwhile, because a failure could pass for a refusal.
    """
    hrefs: list[str] = []

    def new_href() -> str:
        hrefs.append(f"{prefix}{uuid.uuid4().hex}.ics")
        return hrefs[-1]

    try:
        return Findings(_try_preconditions(send, new_href), (_try_content(_strict(send), new_href()),))
    finally:
        failure: CalendarError | None = None
        for href in hrefs:
            try:
                send("DELETE", href, b"", {})
            except CalendarError as error:
                failure = error
        if failure is not None:
            raise failure


def _strict(send: Send) -> Send:
    """Return a `send` that raises `Unreachable` if the server fails; for requests without a concurrent one."""

    def send_strictly(method: str, href: str, body: bytes, headers: Mapping[str, str]) -> Response:
        response = send(method, href, body, headers)
        if response.status >= 500 or response.status in (408, 423, 425):
            raise Unreachable(f"The calendar's server failed (HTTP {response.status}) while calsync tried it out.", 5)
        return response

    return send_strictly


def _try_preconditions(send: Send, new_href: Callable[[], str]) -> tuple[Capability, ...]:
    absent, wrong = {"If-None-Match": "*"}, {"If-Match": '"calsync-wrong"'}
    href, missing, send_strictly = new_href(), new_href(), _strict(send)
    send_strictly("PUT", href, _event(href, 1), absent)
    overwrites = send_strictly("PUT", href, _event(href, 2), absent).is_success
    changes_any = send_strictly("PUT", href, _event(href, 3), wrong).is_success
    deletes_any = send_strictly("DELETE", href, b"", wrong).is_success
    creates_missing = send_strictly("PUT", missing, _event(missing, 1), wrong).is_success
    return (
        _capability(
            not overwrites,
            "Honours If-None-Match: a create never overwrites an event",
            "Ignores If-None-Match: a create overwrites an existing event",
        ),
        _capability(
            not changes_any,
            "Honours If-Match: a change never overwrites a newer version",
            "Ignores If-Match: a change overwrites a newer version",
        ),
        _capability(
            not deletes_any,
            "Honours If-Match on DELETE: a removal never deletes a newer version",
            "Ignores If-Match on DELETE: a removal deletes a newer version",
        ),
        _capability(
            not creates_missing,
            "Honours If-Match for a missing event: a change never creates one",
            "Ignores If-Match for a missing event: a change creates it",
        ),
        _try_race(send, new_href, "create"),
        _try_race(send, new_href, "change"),
    )


def _try_race(send: Send, new_href: Callable[[], str], action: str) -> Capability:
    """Run two writers at once, several times; exactly one of them must win."""
    send_strictly = _strict(send)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            href = new_href()
            condition = {"If-None-Match": "*"}
            if action == "change":
                send_strictly("PUT", href, _event(href, 0), {})
                condition = {"If-Match": send_strictly("GET", href, b"", {}).etag}
            bodies = [_event(href, n) for n in (1, 2)]
            responses = list(pool.map(lambda body, at=href, when=condition: send("PUT", at, body, when), bodies))
            if all(response.is_success for response in responses):
                return Capability(False, f"Two concurrent {action}s may both report success")
            if all(response.status >= 500 for response in responses):
                raise Unreachable("The calendar's server failed for both of two writers while calsync tried it out.", 5)
    return Capability(True, f"One of two concurrent {action}s wins")


def _try_content(send: Send, href: str) -> Capability:
    ics = _event(href, 1, _LONG_TITLE)
    send("PUT", href, ics, {"If-None-Match": "*"})
    return _capability(
        _lines(ics) <= _lines(send("GET", href, b"", {}).body),
        "Keeps what is written",
        "May lose or alter what is written and still report success; calsync reads every write back and reports this",
    )


def _capability(holds: bool, good: str, bad: str) -> Capability:
    return Capability(holds, good if holds else bad)


def _lines(ics: bytes) -> set[bytes]:
    """Return the lines that any server should keep."""
    unfolded = re.sub(rb"\r?\n[ \t]", b"", ics)
    return {line.strip() for line in unfolded.splitlines() if line.startswith((b"SUMMARY", MARK.encode()))}


def _event(href: str, sequence: int, summary: str = "calsync is trying the server out") -> bytes:
    start = datetime(2000, 1, 1, tzinfo=UTC)
    event = Event()
    event.add("UID", href.removesuffix(".ics"))
    event.add("DTSTAMP", start)
    event.add("DTSTART", start)
    event.add("DTEND", start + timedelta(minutes=1))
    event.add("SEQUENCE", sequence)
    event.add("SUMMARY", summary)
    event.add("TRANSP", "TRANSPARENT")
    event.add(MARK, uuid.uuid4().hex)
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", PRODID)
    calendar.add_component(event)
    return bytes(calendar.to_ical())
