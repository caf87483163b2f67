import base64
import json
from dataclasses import replace
from datetime import timedelta

from calsync.core.delivery import KEPT, Delivery, merge_deliveries, new_delivery
from calsync.core.properties import DELIVERY
from calsync.ical.delivery import read_deliveries, write_deliveries
from calsync.ical.parser import parse
from support.samples import utc

NOW = utc(2026, 12, 1, 9)

STORED = (
    "eyJpZCI6ImhhbmRvZmYtMS10aWNrZXQiLCJhYm91dCI6ImhhbmRvZmYtMSIsInRhcmdldCI6InRpY2tldCIsInRleHQiOiJCZW4gaGFzIHRoZSB0cmFpbi4i"
    "LCJtYWRlIjoiMjAyNi0xMi0wMVQwOTowMDowMFoiLCJ1bnRpbCI6IjIwMjYtMTItMDJUMDk6MDA6MDBaIiwiZHVlIjoiMjAyNi0xMi0wMVQwOTowMDowNVoi"
    "LCJ0aWNrZXQiOiJUMTIzIiwidG8iOiJiZW4iLCJhc3NpZ24iOiJCZW4iLCJzdGF0ZSI6ImNsYWltZWQiLCJhdHRlbXB0cyI6MiwiY2xhaW1lZCI6IjIwMjYt"
    "MTItMDFUMDk6MDA6MDZaIiwiYnkiOiI0ZjFjIiwiZGV0YWlsIjoid2h5IiwicmVtYXJrIjoiY29tbWVudGVkIG9ubHkifQ=="
)
"""A delivery as the first version stored it; calendars carry such tokens."""


def resource(token):
    return f"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:a\r\n{DELIVERY}:{token}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n".encode()


def test_a_delivery_that_is_stored_on_a_calendar_stays_readable_and_is_stored_alike():
    (delivery,) = read_deliveries(parse(resource(STORED)).calendar)
    assert delivery == Delivery(
        id="handoff-1-ticket",
        correlation_id="handoff-1",
        target="ticket",
        text="Ben has the train.",
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
        not_before=NOW + timedelta(seconds=5),
        ticket="T123",
        to="ben",
        assign="Ben",
        state="claimed",
        attempts=2,
        claimed_at=NOW + timedelta(seconds=6),
        lease_id="4f1c",
        detail="why",
        remark="commented only",
    )
    unfolded = write_deliveries(resource("e30="), [delivery]).replace(b"\r\n ", b"")
    assert STORED.encode() in unfolded
    assert json.loads(base64.urlsafe_b64decode(STORED))["about"] == "handoff-1"


def test_old_deliveries_make_room_and_running_ones_do_not():
    sent = [replace(new_delivery(f"update-{n}", "log", "x", NOW), state="sent") for n in range(100)]
    assert len(merge_deliveries(sent, [], NOW)) == 100
    later = NOW + timedelta(days=2)
    fresh = new_delivery("update-new", "log", "x", later)
    kept = merge_deliveries(sent, [fresh], later)
    assert (len(kept), kept[-1], kept[0].correlation_id) == (KEPT + 1, fresh, "update-40")
