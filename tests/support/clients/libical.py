"""What libical, the library behind Thunderbird, Evolution and KOrganizer, shows of a feed; read through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from datetime import UTC, date, datetime
from functools import cache

NAME = "libical.so.3"


class _Time(ctypes.Structure):
    _fields_ = [
        *((name, c_int) for name in ("year", "month", "day", "hour", "minute", "second", "is_date", "is_daylight")),
        ("zone", c_void_p),
    ]


class _Span(ctypes.Structure):
    _fields_ = [("start", c_int64), ("end", c_int64), ("is_busy", c_int)]


_Callback = CFUNCTYPE(None, c_void_p, POINTER(_Span), c_void_p)
_SIGNATURES = {
    "icalcomponent_new_from_string": (c_void_p, c_char_p),
    "icalcomponent_free": (None, c_void_p),
    "icalcomponent_get_first_component": (c_void_p, c_void_p, c_int),
    "icalcomponent_get_next_component": (c_void_p, c_void_p, c_int),
    "icalcomponent_get_uid": (c_char_p, c_void_p),
    "icalcomponent_get_summary": (c_char_p, c_void_p),
    "icalcomponent_get_dtstart": (_Time, c_void_p),
    "icalcomponent_get_dtend": (_Time, c_void_p),
    "icalcomponent_get_first_property": (c_void_p, c_void_p, c_int),
    "icalcomponent_string_to_kind": (c_int, c_char_p),
    "icalproperty_string_to_kind": (c_int, c_char_p),
    "icalproperty_get_datetime_with_component": (_Time, c_void_p, c_void_p),
    "icalcomponent_foreach_recurrence": (None, c_void_p, _Time, _Time, _Callback, c_void_p),
    "icaltime_as_timet_with_zone": (c_int64, _Time, c_void_p),
    "icaltime_from_string": (_Time, c_char_p),
}


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(NAME)
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def read(ics: bytes, start: datetime, end: datetime) -> Iterator[tuple[str, str, date, date]]:
    """UID, summary, start and end of what overlaps the span: in UTC, naive where floating, dates where all-day."""
    calendar = _library().icalcomponent_new_from_string(ics)
    assert calendar, "libical cannot parse it"
    try:
        events = list(_events(calendar))
        overridden = {
            (_library().icalcomponent_get_uid(event), moment) for event in events if (moment := _recurrence_id(event))
        }
        for event in events:
            uid, summary = _library().icalcomponent_get_uid(event), _library().icalcomponent_get_summary(event)
            first = _library().icalcomponent_get_dtstart(event)
            for begin, finish in _spans(event, start, end):
                if not _recurrence_id(event) and (uid, begin) in overridden:
                    continue
                if begin < end.timestamp() and finish > start.timestamp():
                    yield uid.decode(), summary.decode(), _shown(begin, first), _shown(finish, first)
    finally:
        _library().icalcomponent_free(calendar)


def _events(calendar: int) -> Iterator[int]:
    kind = _library().icalcomponent_string_to_kind(b"VEVENT")
    event = _library().icalcomponent_get_first_component(calendar, kind)
    while event:
        yield event
        event = _library().icalcomponent_get_next_component(calendar, kind)


def _recurrence_id(event: int) -> int | None:
    found = _library().icalcomponent_get_first_property(event, _library().icalproperty_string_to_kind(b"RECURRENCE-ID"))
    return _seconds(_library().icalproperty_get_datetime_with_component(found, event)) if found else None


def _spans(event: int, start: datetime, end: datetime) -> list[tuple[int, int]]:
    """The instances as seconds since 1970; floating ones and days as if in UTC."""
    first, last = _library().icalcomponent_get_dtstart(event), _library().icalcomponent_get_dtend(event)
    length = _seconds(last) - _seconds(first)
    found: list[tuple[int, int]] = []

    @_Callback
    def add(_component: int, span: ctypes._Pointer[_Span], _data: int) -> None:
        found.append((span.contents.start, span.contents.start + length))

    limits = (_library().icaltime_from_string(f"{moment:%Y%m%dT%H%M%SZ}".encode()) for moment in (start, end))
    _library().icalcomponent_foreach_recurrence(event, *limits, add, None)
    return found


def _seconds(moment: _Time) -> int:
    return _library().icaltime_as_timet_with_zone(moment, moment.zone)


def _shown(seconds: int, like: _Time) -> date:
    moment = datetime.fromtimestamp(seconds, UTC)
    if like.is_date:
        return moment.date()
    return moment if like.zone else moment.replace(tzinfo=None)
