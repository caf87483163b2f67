"""How messages are stored in a week's resource, and read back."""

import base64
import json
from datetime import timedelta

import pytest

from calsync.core.delivery import Delivery, new_delivery
from calsync.ical.delivery import _to_token, read_deliveries, write_deliveries
from calsync.ical.parser import parse
from calsync.ical.reservation import encode_reservation
from calsync.notifications import updates
from calsync.notifications.dispatcher import Dispatcher
from support.pair import HREF, MIDWEEK, W49, handed, outcomes, settled, standing


@pytest.mark.parametrize("times", [("made", "until", "due"), ("due",), ("until",), "far"])
def test_a_delivery_with_naive_times_or_such_that_nobody_can_add_to_is_left_out(known, calendar, destinations, room, times):
    entry = standing(known)
    bad = json.loads(base64.urlsafe_b64decode(_to_token(new_delivery("spoilt", "log", "x", MIDWEEK))))
    if times == "far":
        bad |= {"state": "claimed", "claimed": "9999-12-31T23:59:59Z"}
    for name in () if times == "far" else times:
        bad[name] = bad[name].removesuffix("Z")
    token = base64.urlsafe_b64encode(json.dumps(bad).encode())
    text = write_deliveries(entry.ics, [new_delivery("good", "log", "!log good", MIDWEEK)])
    text = text.replace(b"X-CALSYNC-MARK", b"X-CALSYNC-DELIVERY:" + token + b"\r\nX-CALSYNC-MARK", 1)
    calendar.put(HREF, text, etag=entry.etag)
    assert [one.correlation_id for one in standing(known).deliveries] == ["good"]
    Dispatcher(known, destinations).send_due(MIDWEEK + timedelta(seconds=20))
    assert room.said == ["!log good"]


# How it stands on the calendar


def test_deliveries_leave_the_reservation_and_what_others_wrote_as_it_was(known, calendar, destinations):
    entry = standing(known)
    spoken_for = entry.ics.replace(b"TRANSP:OPAQUE\r\n", b"TRANSP:OPAQUE\r\nX-OTHER-CLIENT;X-P=1:kept\r\n", 1)
    calendar.put(HREF, spoken_for, etag=entry.etag)
    before = standing(known)
    updates.post_update(Dispatcher(known, destinations), W49, "ana", "group1 is out", MIDWEEK)
    after = standing(known)
    assert after.reservation == before.reservation
    assert (after.mark, after.changes, after.reading) == (before.mark, before.changes, before.reading)
    assert b"X-OTHER-CLIENT;X-P=1:kept" in after.ics
    assert len(after.deliveries) == 1


def test_a_delivery_that_somebody_spoilt_is_left_out_and_the_others_are_sent(known, calendar, destinations, room):
    room.down = 1
    handed(known, destinations)
    entry = standing(known)
    token = _to_token(entry.deliveries[0])
    spoilt = write_deliveries(entry.ics, entry.deliveries).replace(token[:40].encode(), b"A" * 40, 1)
    calendar.put(HREF, spoilt, etag=entry.etag)
    found = settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    assert outcomes(found) == {"log": "sent"}


def test_a_delivery_comes_back_from_the_calendar_as_it_was(known, now):
    full = Delivery(
        "a-ticket", "a", "ticket", "ünïcode; , \\n", now, now, now, "T1", "ben", "Ben", "claimed", 3, now, "me", "why"
    )
    ics = write_deliveries(standing(known).ics, [full, new_delivery("b", "log", "!log x" * 80, now)])
    assert read_deliveries(parse(ics).calendar)[0] == full
    assert all(len(line) <= 75 for line in ics.split(b"\r\n"))
    entry = standing(known)
    again = encode_reservation(known.config, entry.reservation, "mark", ics, entry.written)
    assert read_deliveries(parse(again).calendar) == read_deliveries(parse(ics).calendar)
