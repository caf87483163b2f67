"""What a CalDAV server promises, found out by trying it: nobody can know from its name.

The events that are tried with lie in the year 2000, are transparent, and are removed in the end.
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
"""How many times two writers race each other: a server that mixes them up does not do so every time."""


_TEXT = "Where lines are folded: " + 40 * "\N{STEAM LOCOMOTIVE}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: the status, the etag (with its quotes), and the body."""

    status: int
    etag: str
    body: bytes

    @property
    def done(self) -> bool:
        """Whether it was a success."""
        return 200 <= self.status < 300


Send = Callable[[str, str, bytes, Mapping[str, str]], Answer]
"""Sends a method with an href, a body and headers."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What holds of conditional writes, and of what is written."""

    preconditions: tuple[Capability, ...]
    content: tuple[Capability, ...]


def probe(prefix: str, send: Send) -> Findings:
    """Try a server out through `send`, with events at hrefs that begin with `prefix`; raises the calendar's errors.

    A server that is in trouble meanwhile is `Unreachable`: it might seem to refuse what it lets pass otherwise.
    """
    used: list[str] = []

    def fresh() -> str:
        used.append(f"{prefix}{uuid.uuid4().hex}.ics")
        return used[-1]

    try:
        return Findings(_preconditions(send, fresh), (_keeps_content(_in_peace(send), fresh()),))
    finally:
        failed: CalendarError | None = None
        for href in used:
            try:
                send("DELETE", href, b"", {})
            except CalendarError as error:
                failed = error
        if failed is not None:
            raise failed


def _in_peace(send: Send) -> Send:
    """Sends with nobody else about, so that what sounds like trouble is trouble."""

    def sent(method: str, href: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        answer = send(method, href, body, headers)
        if answer.status >= 500 or answer.status in (408, 423, 425):
            raise Unreachable(f"The calendar's server is in trouble (HTTP {answer.status}) and cannot be tried out.", 5)
        return answer

    return sent


def _preconditions(send: Send, fresh: Callable[[], str]) -> tuple[Capability, ...]:
    absent, wrong = {"If-None-Match": "*"}, {"If-Match": '"calsync-wrong"'}
    href, missing, alone = fresh(), fresh(), _in_peace(send)
    alone("PUT", href, _event(href, 1), absent)
    created_twice = alone("PUT", href, _event(href, 2), absent).done
    updated = alone("PUT", href, _event(href, 3), wrong).done
    deleted = alone("DELETE", href, b"", wrong).done
    appeared = alone("PUT", missing, _event(missing, 1), wrong).done
    return (
        _capability(not created_twice, "It creates only where nothing stands", "It overwrites what a create finds"),
        _capability(not updated, "It changes only what was read", "It changes what was not read"),
        _capability(not deleted, "It removes only what was read", "It removes what was not read"),
        _capability(not appeared, "It changes only what is there", "It creates where a change finds nothing"),
        _race(send, fresh, "create"),
        _race(send, fresh, "change"),
    )


def _race(send: Send, fresh: Callable[[], str], action: str) -> Capability:
    """Let two writers do the same at once, several times; one of them must win, and no more."""
    alone = _in_peace(send)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            href = fresh()
            condition = {"If-None-Match": "*"}
            if action == "change":
                alone("PUT", href, _event(href, 0), {})
                condition = {"If-Match": alone("GET", href, b"", {}).etag}
            bodies = [_event(href, n) for n in (1, 2)]
            answers = list(pool.map(lambda body, at=href, when=condition: send("PUT", at, body, when), bodies))
            if all(answer.done for answer in answers):
                return Capability(False, f"Of two that {action} at once, both may be told that they won")
            if all(answer.status >= 500 for answer in answers):
                raise Unreachable("The calendar's server lets neither of two writers win, and cannot be tried out.", 5)
    return Capability(True, f"Of two that {action} at once, one wins")


def _keeps_content(send: Send, href: str) -> Capability:
    sent = _event(href, 1, _TEXT)
    send("PUT", href, sent, {"If-None-Match": "*"})
    return _capability(
        _lines(sent) <= _lines(send("GET", href, b"", {}).body),
        "What is written is read back",
        "What is written may be lost or altered although it says otherwise; calsync reads back and says so",
    )


def _capability(holds: bool, kept: str, broken: str) -> Capability:
    return Capability(holds, kept if holds else broken)


def _lines(ics: bytes) -> set[bytes]:
    """The lines that any server should keep."""
    unfolded = re.sub(rb"\r?\n[ \t]", b"", ics)
    return {line.strip() for line in unfolded.splitlines() if line.startswith((b"SUMMARY", MARK.encode()))}


def _event(href: str, sequence: int, summary: str = "calsync is trying the server out") -> bytes:
    then = datetime(2000, 1, 1, tzinfo=UTC)
    event = Event()
    event.add("UID", href.removesuffix(".ics"))
    event.add("DTSTAMP", then)
    event.add("DTSTART", then)
    event.add("DTEND", then + timedelta(minutes=1))
    event.add("SEQUENCE", sequence)
    event.add("SUMMARY", summary)
    event.add("TRANSP", "TRANSPARENT")
    event.add(MARK, uuid.uuid4().hex)
    calendar = Calendar()
    calendar.add("VERSION", "2.0")
    calendar.add("PRODID", PRODID)
    calendar.add_component(event)
    return bytes(calendar.to_ical())
