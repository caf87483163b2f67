"""Tiny builders that several tests share."""

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from calsync.core.conductors import Conductor, Pair
from calsync.core.config import parse
from calsync.core.planning import plan
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.core.working_hours import Hours
from calsync.ical.occurrences import read_occurrences
from calsync.ical.parser import parse as parse_resource
from calsync.ical.reservation import decode_reservation, encode_reservation

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
SHIPPED = ROOT / "windows.toml"


def ics(*event_lines, uid="event@example.org", before=""):
    """A VCALENDAR (CRLF) with one VEVENT of these lines; `before` stands in front of it. No lines: no VEVENT."""
    event = ["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *event_lines, "END:VEVENT"] if event_lines else []
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//test//EN", *before.split("\n"), *event, "END:VCALENDAR"]
    return "".join(f"{line}\r\n" for line in lines if line).encode()


def event(*lines, uid="event@example.org"):
    """A further VEVENT, for `before`."""
    return "\n".join(["BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *lines, "END:VEVENT"])


def own_zone(offset, tzid="Own"):
    return (
        f"BEGIN:VTIMEZONE\nTZID:{tzid}\nBEGIN:STANDARD\nDTSTART:19700101T000000\n"
        f"TZOFFSETFROM:{offset}\nTZOFFSETTO:{offset}\nTZNAME:X\nEND:STANDARD\nEND:VTIMEZONE"
    )


def person(name, timezone, hours="09:00-18:00", window=None):
    return Conductor(name, timezone, Hours.parse(hours), window)


EU = person("conductor-eu", "Europe/Paris")
US = person("conductor-us", "America/Denver")
PAIR = Pair(EU, US)


def configured(environ=None, **changes):
    """The shipped configuration without recurring windows, freezes and rotation, with `section={...}` laid over it."""
    document = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    document["windows"] = {name: document["windows"][name] for name in ("european", "american")}
    document["freezes"] = []
    del document["rotation"]
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    return parse(document, environ or {})


def utc(*parts):
    return datetime(*parts).replace(tzinfo=UTC)


def read(ics, href, horizon):
    """What a resource (bytes) says within the horizon."""
    return read_occurrences(parse_resource(ics), href, horizon)


def decoded(ics):
    """What calsync wrote on a resource of a week (bytes)."""
    return decode_reservation(parse_resource(ics).calendar)


def rewritten(config, reservation, mark, former):
    """The reservation as a resource in the place of `former` (bytes), which calsync wrote and people edited."""
    return encode_reservation(config, reservation, mark, former, decoded(former).reservation)


def reserved(pair=PAIR, week="2026-W49", **changes):
    """A week as it is reserved for the pair, with `changes` of its fields."""
    found = plan(configured(), pair, Week.parse(week), utc(2020, 1, 1))
    standing = Reservation(found.week, "Train", pair, found.primary, found.backup, found.slots, utc(2026, 11, 24, 12))
    return replace(standing, **changes)
