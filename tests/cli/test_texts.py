"""What people write: one check for the command line and the API, and nothing that moves a terminal or ends a line."""

import pytest

from calsync.booking import absences
from calsync.booking.handoff import hand_off
from calsync.booking.reservations import reserve
from calsync.core.conductors import conductor
from calsync.core.errors import ConfigInvalid, Invalid
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.notifications.updates import post_update
from calsync.schedule.check import ReservationRequest
from support.samples import EU, PAIR, US, configured

ODD = ["\x1b[31mred", "two\nlines", "two\rlines", "\x9b31m", "a\u2028b", "\u202egnp.exe", "\u2066x", "\x7f", "\x02bold"]


@pytest.mark.parametrize("odd", ODD)
def test_names_versions_tickets_and_reasons_are_lines(sync, now, odd):
    config = configured()
    with pytest.raises(Invalid, match="A name has a line break or another control character"):
        conductor(config, odd, timezone="Europe/Paris")
    for field in ("train", "ticket", "override"):
        with pytest.raises(Invalid, match=f"{field} has a line break"):
            reserve(sync, ReservationRequest(PAIR, **{field: odd}), now)
    with pytest.raises(ConfigInvalid, match=r"calendar.name: .*line break"):
        configured(calendar={"name": odd})


@pytest.mark.parametrize("odd", ODD)
def test_notes_and_news_are_lines_and_nothing_is_written_for_others(sync, calendar, now, odd):
    reserve(sync, ReservationRequest(PAIR), now)
    week = sync.agenda.reservations[0].reservation.week
    before = calendar.changes(None)
    with pytest.raises(Invalid, match="note has a line break"):
        absences.add_absence(sync, EU.name, week.monday, week.monday, now, note=odd)
    with pytest.raises(Invalid, match="note has a line break"):
        hand_off(sync, Destinations().missing, week, US, odd, now)
    with pytest.raises(Invalid, match="text has a line break"):
        post_update(Dispatcher(sync, Destinations()), week, EU.name, odd, now)
    assert calendar.changes(None) == before


@pytest.mark.parametrize(
    "command",
    [
        ("reserve", "\x1b[31mana@Europe/Paris", "ben@America/Denver"),
        ("reserve", "ana@Europe/Paris", "ben@America/Denver", "--override", "a\x07b"),
        ("reserve", "ana@Europe/Paris", "ben@America/Denver", "--train", "x" * 101),
    ],
)
def test_the_command_line_refuses_them_and_writes_nothing(run, calendar, command):
    said = run(*command)
    assert said.code == 2
    assert "control character" in said.err or "write between 1 and 100" in said.err
    assert "\x1b" not in said.err
    assert list(calendar.changes(None).changed) == []
