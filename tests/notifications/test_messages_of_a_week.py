"""What becomes of a message while its week, its ticket or who is responsible changes."""

from datetime import timedelta

import pytest

from calsync.booking import reservations
from calsync.core.conductors import Pair
from calsync.core.delivery import LEASE
from calsync.core.errors import Invalid, Refused
from calsync.ical.delivery import write_deliveries
from calsync.notifications import updates
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from support.pair import ANA, BEN, CEM, HREF, MIDWEEK, W49, handed, outcomes, settled, standing, told


def test_a_hand_off_that_comes_late_leaves_the_ticket_to_who_is_responsible_by_then(
    known, calendar, team, server, destinations
):
    server.down = 1
    assert outcomes(handed(known, destinations)[1])["ticket"] == "pending"
    handed(known, destinations, ANA, "back again", at=MIDWEEK + timedelta(seconds=1))
    assert server.owner() == "Ana"
    late = settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    assert [(one.state, one.remark) for one in late if one.target == "ticket"] == [
        ("sent", "commented only: ana is responsible now"),
        ("sent", None),
    ]
    assert (server.owner(), len(server.comments())) == ("Ana", 2)


def test_a_message_that_comes_late_says_of_when_it_is(known, calendar, team, server, room, destinations):
    room.down = server.down = 1
    handed(known, destinations)
    told(known, destinations, "the later one", at=MIDWEEK + timedelta(seconds=1), sender="ben", decision=True)
    settled(known, destinations, MIDWEEK + timedelta(seconds=12), rounds=1)
    assert room.said[0].endswith("the later one (MediaWiki train 1.46.0-wmf.5, T400001: ben)")
    assert room.said[1].endswith("ana → ben) [of Wed 2 Dec 12:00 UTC]")
    assert ["[of Wed 2 Dec 12:00 UTC]" in said for said in server.comments()] == [False, True]


def test_a_hand_off_of_a_week_that_was_released_meanwhile_is_told_no_more(
    known, calendar, team, server, room, destinations
):
    room.down = server.down = 1
    handed(known, destinations)
    reservations.release(known, W49, MIDWEEK + timedelta(seconds=1))
    found = settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    assert {(one.state, one.detail) for one in found} == {("skipped", "2026-W49 was released meanwhile")}
    assert (room.said, server.comments()) == ([], [])


def test_a_message_goes_onto_the_ticket_that_the_week_has_when_it_is_sent(known, calendar, team, server, destinations):
    server.down = 1
    handed(known, destinations)
    reservations.change(known, W49, lambda kept: ReservationRequest(kept.pair, ticket="T400002"), MIDWEEK)
    settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    assert (len(server.comments(400001)), len(server.comments(400002))) == (0, 1)
    assert (server.owner(400001), server.owner(400002)) == (None, "Ben")


def test_the_ticket_and_who_is_responsible_are_those_of_the_claims_own_write(known, calendar, team, server, destinations):
    server.down = 1
    handed(known, destinations)
    later = MIDWEEK + timedelta(minutes=1)
    behind = CalendarSync(calendar, team, later)
    behind.refresh(later)
    reservations.change(known, W49, lambda kept: ReservationRequest(kept.pair, ticket="T400002"), MIDWEEK)
    Dispatcher(behind, destinations).send_due(later)  # without another look at the calendar
    assert (len(server.comments(400001)), len(server.comments(400002))) == (0, 1)
    assert (server.owner(400001), server.owner(400002)) == (None, "Ben")


@pytest.mark.parametrize("anew", [False, True])
def test_messages_of_a_reservation_that_is_no_more_are_not_told_of_the_one_in_its_place(
    known, calendar, team, server, room, destinations, anew
):
    room.down = server.down = 9
    handed(known, destinations)
    told(known, destinations, sender="ben", decision=True)
    others = Pair(CEM, ANA)
    if anew:
        reservations.release(known, W49, MIDWEEK)
        reservations.reserve(known, ReservationRequest(others, W49, ticket="T400002", override="needed"), MIDWEEK)
    else:
        reservations.change(
            known, W49, lambda _kept: ReservationRequest(others, ticket="T400002", override="needed"), MIDWEEK
        )
    room.down = server.down = 0
    found = settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    states = {one.correlation_id[:6]: (one.state, one.detail) for one in found}
    if anew:
        assert set(states.values()) == {("skipped", "2026-W49 was released meanwhile")}
        assert (room.said, server.comments(400001), server.comments(400002)) == ([], [], [])
    else:  # the train is the same, and so are its news; who is responsible is not
        assert states == {"handof": ("skipped", "2026-W49 now has another pair"), "update": ("sent", None)}
        assert (len(room.said), len(server.comments(400002)), server.owner(400002)) == (1, 1, None)


def test_a_message_that_was_claimed_as_its_week_was_released_is_not_told_of_the_next_one(
    known, calendar, team, server, destinations
):
    found = updates.post_update(Dispatcher(known, destinations), W49, "ben", "rolling back", MIDWEEK, decision=True)
    entry = standing(known)
    claimed = [one.claim("dead", MIDWEEK) for one in entry.deliveries]
    calendar.put(HREF, write_deliveries(entry.ics, claimed), etag=entry.etag)
    reservations.release(known, W49, MIDWEEK)
    assert {one.state for one in known.agenda.objects[HREF].deliveries} == {"claimed"}
    reservations.reserve(known, ReservationRequest(Pair(CEM, ANA), W49, ticket="T400002", override="needed"), MIDWEEK)
    told = settled(known, destinations, MIDWEEK + LEASE)
    why = "it may have arrived: 2026-W49 was released meanwhile"
    assert {(one.correlation_id, one.state, one.detail) for one in told} == {(found.correlation_id, "unknown", why)}
    assert server.comments(400002) == []


def test_what_a_release_dropped_does_not_count_as_told(known, calendar, team, server, room, destinations):
    room.down = server.down = 9
    handed(known, destinations)
    told(known, destinations, sender="ben", decision=True)
    reservations.release(known, W49, MIDWEEK)
    reservations.reserve(known, ReservationRequest(Pair(BEN, ANA), W49, ticket="T400001", override="needed"), MIDWEEK)
    room.down = server.down = 0
    _, sent = told(known, destinations, sender="ben", at=MIDWEEK + timedelta(minutes=2), decision=True)
    assert outcomes(sent) == {"ticket": "sent", "log": "sent"}
    with pytest.raises(Invalid, match="ben is responsible for 2026-W49 already"):
        handed(known, destinations)


def test_what_was_dropped_with_a_release_that_is_taken_back_is_sent_all_the_same(
    known, calendar, team, server, destinations
):
    server.down = 1
    handed(known, destinations)

    class Altering:
        """Keeps the first write otherwise than it was written."""

        def __getattr__(self, name):
            return getattr(calendar, name)

        def put(self, href, ics, *, etag):
            if self.__dict__.setdefault("first", True):
                self.first = False
                ics = ics.replace(b"DTSTART;TZID=Europe/Paris:20261201T10", b"DTSTART;TZID=Europe/Paris:20261201T09")
            return calendar.put(href, ics, etag=etag)

    with pytest.raises(Refused):
        reservations.release(CalendarSync(Altering(), team, MIDWEEK), W49, MIDWEEK)
    assert outcomes(standing(known).deliveries)["ticket"] == "pending"
    settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    assert (len(server.comments()), server.owner()) == (1, "Ben")


def test_a_message_for_a_ticket_that_was_taken_away_fails_and_says_so(known, calendar, team, server, destinations):
    server.down = 1
    handed(known, destinations)
    reservations.change(known, W49, lambda kept: ReservationRequest(kept.pair), MIDWEEK)
    found = settled(known, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
    assert [(one.state, one.detail) for one in found if one.target == "ticket"] == [
        ("failed", "the week no longer has a ticket")
    ]
