"""Hand-offs and updates: the calendar first, and each message once, whatever dies or is away meanwhile."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from icalendar import Calendar

from calsync.booking import absences, reservations
from calsync.booking.handoff import hand_off
from calsync.calendars.sql import SqlCalendar
from calsync.core import delivery
from calsync.core.conductors import Pair, conductor
from calsync.core.conflict import Conflicted
from calsync.core.delivery import LEASE, Delivery, NotSent, Unsure, new_delivery
from calsync.core.errors import Changed, Invalid, Refused, Unreachable
from calsync.core.weeks import Week
from calsync.ical.delivery import _to_token, read_deliveries, write_deliveries
from calsync.ical.parser import parse
from calsync.ical.reservation import encode_reservation
from calsync.notifications import dispatcher, updates
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import BACKOFF, Dispatcher, send_handoff
from calsync.notifications.phabricator import Conduit
from calsync.schedule.check import ReservationRequest
from calsync.schedule.conflicts import conflicts_of_reservations as standing_conflicts
from calsync.schedule.diary import Busy
from calsync.schedule.status import on_call_status
from calsync.schedule.sync import CalendarSync
from calsync.schemas.week import HandoffOut, UpdateOut
from cli.test_commands import folder, run  # noqa: F401
from support.conduit import TOKEN, ConduitServer
from support.irc_servers import until
from support.samples import ROOT, TESTS, configured, ics, person
from web.test_routes import WEEK, client, events, problem, served  # noqa: F401

W49 = Week(2026, 49)
HREF = "train-2026-W49.ics"
ANA, BEN, CEM = (
    person("ana", "Europe/Paris"),
    person("ben", "America/Denver"),
    person("cem", "Europe/Berlin"),
)
TEAM = [
    {"name": "ana", "timezone": "Europe/Paris", "ticket_user": "Ana", "irc": "ana_"},
    {"name": "ben", "timezone": "America/Denver", "ticket_user": "Ben"},
    {"name": "cem", "timezone": "Europe/Berlin"},
]
NEAR = {"horizon": {"past": "30d", "future": "60d"}}
"""A horizon that is quickly read."""
NOTE = "blocked on T400002, over to you"
MIDWEEK = datetime(2026, 12, 2, 12, tzinfo=UTC)
"""Wednesday, between the European and the American slot."""


class Room:
    """A channel that remembers what was said; the first `down` tries fail."""

    def __init__(self, down=0):
        self.said, self.down = [], down

    def send(self, text):
        if self.down:
            self.down -= 1
            raise NotSent("the channel is down")
        self.said.append(text)


@pytest.fixture
def server():
    server = ConduitServer()
    yield server
    server.stop()


@pytest.fixture
def room():
    return Room()


@pytest.fixture
def destinations(server, room):
    return Destinations(Conduit(server.url, TOKEN), Channels(room, room))


@pytest.fixture
def team():
    return configured(conductors=TEAM, calendar=NEAR)


@pytest.fixture
def known(calendar, team, now):
    sync = CalendarSync(calendar, team, now)
    request = ReservationRequest(Pair(ANA, BEN), W49, "1.46.0-wmf.5", "T400001")
    reservations.reserve(sync, request, now)
    return sync


def handed(sync, destinations, to=BEN, note=NOTE, at=MIDWEEK):
    found = hand_off(sync, destinations.missing, W49, to, note, at, author="ana")
    return found, Dispatcher(sync, destinations).deliver(found.href, found.correlation_id, at)


def outcomes(sent):
    return {one.target: one.state for one in sent}


def standing(sync, now=MIDWEEK):
    return sync.refresh(now).reservation(W49)


def against(sync, now=MIDWEEK):
    """Who is away in the week's slots ahead, and who could cover, as it is found on every sync."""
    (found,) = (conflicts for _, conflicts in standing_conflicts(sync.refresh(now), now))
    return [(one.slot, one.event.summary, [who.name for who in one.cover]) for one in found if one.kind == "busy"]


# What stands on the calendar


def test_slots_from_now_on_name_the_new_responsible_person_and_past_ones_keep_theirs(known, destinations):
    found, _ = handed(known, destinations)
    names = {slot.id: found.outcome.reservation.names(slot) for slot in found.outcome.reservation.slots}
    assert names == {
        "2026-12-01-european": ("ana",),
        "2026-12-01-american": ("ben",),
        "2026-12-02-european": ("ana",),
        "2026-12-02-american": ("ben",),
        "2026-12-03-european": ("ben",),
        "2026-12-03-american": ("ben",),
    }
    written = {str(event.get("X-CALSYNC-SLOT", "")): event for event in Calendar.from_ical(standing(known).ics).events}
    assert str(written["2026-12-02-european"]["SUMMARY"]).endswith("group1 – ana")
    assert str(written["2026-12-03-european"]["SUMMARY"]).endswith("group2 – ben")
    assert "Responsible now: ben" in str(written["2026-12-03-european"]["DESCRIPTION"])


def test_a_second_hand_off_keeps_what_the_first_made_of_the_past(known, destinations):
    handed(known, destinations, BEN, at=datetime(2026, 12, 1, 12, tzinfo=UTC))
    found, _ = handed(known, destinations, ANA, "back again", at=MIDWEEK)
    names = {slot.id: found.outcome.reservation.names(slot) for slot in found.outcome.reservation.slots}
    assert names["2026-12-01-european"] == ("ana",)
    assert names["2026-12-01-american"] == names["2026-12-02-european"] == ("ben",)
    assert names["2026-12-02-american"] == names["2026-12-03-european"] == ("ana",)


def test_a_change_of_the_week_keeps_who_is_responsible_and_what_was_told(known, destinations, team):
    _, sent = handed(known, destinations)
    changed = reservations.change(
        known, W49, lambda kept: ReservationRequest(kept.pair, train="1.46.0-wmf.6", ticket=kept.ticket), MIDWEEK
    )
    assert changed.reservation.responsible == BEN
    assert {delivery.id for delivery in standing(known).deliveries} == {one.id for one in sent}
    other = reservations.change(known, W49, lambda kept: ReservationRequest(Pair(CEM, BEN), ticket=kept.ticket), MIDWEEK)
    assert other.reservation.responsible is None


def test_somebody_from_outside_the_pair_can_take_over(known, destinations, server):
    found, sent = handed(known, destinations, CEM)
    assert found.outcome.reservation.responsible == CEM
    assert found.outcome.reservation.pair == Pair(ANA, BEN)
    ticket = next(one for one in sent if one.target == "ticket")
    assert ticket.detail.startswith("commented only: conductors.ticket_user of cem is not set")
    assert (server.owner(), len(server.comments())) == (None, 1)


def test_absences_of_who_took_over_count_and_those_of_who_handed_over_count_no_more(known, destinations):
    thursday = date(2026, 12, 3)
    absences.add_absence(known, "ana", thursday, thursday, MIDWEEK)
    assert against(known) == [("2026-12-03-european", "ana is away", ["ben"])]
    handed(known, destinations, CEM)
    assert against(known) == []
    absences.add_absence(known, "cem", thursday, thursday, MIDWEEK)
    assert [(slot, who) for slot, who, _ in against(known)] == [
        ("2026-12-03-european", "cem is away"),
        ("2026-12-03-american", "cem is away"),
    ]


def test_the_answer_says_when_the_new_person_is_away(known, destinations):
    absences.add_absence(known, "ben", date(2026, 12, 3), date(2026, 12, 3), MIDWEEK)
    found, _ = handed(known, destinations)
    warned = [conflict.slot for conflict in found.outcome.warnings if conflict.kind == "busy"]
    assert warned == ["2026-12-03-european", "2026-12-03-american"]


def test_the_answer_says_which_slots_are_outside_the_new_persons_working_hours(known, destinations):
    found, _ = handed(known, destinations)
    assert [(one.kind, one.slot) for one in found.outcome.warnings] == [("hours", "2026-12-03-european")]


@pytest.mark.parametrize(
    ("to", "at", "said"),
    [(ANA, MIDWEEK, "ana is responsible for 2026-W49 already"), (BEN, MIDWEEK + timedelta(weeks=1), "is over")],
)
def test_a_hand_off_that_makes_no_sense_changes_and_tells_nothing(known, destinations, room, calendar, to, at, said):
    token = calendar.changes(None).token
    with pytest.raises(Invalid, match=said):
        hand_off(known, destinations.missing, W49, to, NOTE, at)
    assert (calendar.changes(None).token, room.said) == (token, [])


def test_what_was_sent_while_a_change_is_taken_back_stays_sent(known, calendar, destinations, room, team):
    updates.post_update(Dispatcher(known, destinations), W49, "ben", "group1 is out", MIDWEEK)
    rival = ics("SUMMARY:Database maintenance", "DTSTART:20261203T093000Z", "DTEND:20261203T100000Z")

    class Busy:
        def __getattr__(self, name):
            return getattr(calendar, name)

        def put(self, *arguments, **options):
            written = calendar.put(*arguments, **options)
            if options["etag"] and self.__dict__.setdefault("first", True):
                self.first = False
                calendar.put("rival.ics", rival, etag=None)
                other = CalendarSync(calendar, team, MIDWEEK + timedelta(minutes=1))
                other.refresh(MIDWEEK + timedelta(minutes=1))
                Dispatcher(other, destinations).send_due(MIDWEEK + timedelta(minutes=1))
            return written

    another = Pair(ANA, replace(BEN, name="eve"))
    with pytest.raises(Conflicted):
        reservations.change(
            CalendarSync(Busy(), team, MIDWEEK), W49, lambda kept: ReservationRequest(another, train="2"), MIDWEEK
        )
    assert standing(known).reservation.train == "1.46.0-wmf.5"
    assert outcomes(standing(known).deliveries) == {"updates": "sent"}
    settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=2))
    assert len(room.said) == 1


def test_a_hand_off_with_another_etag_is_refused(known, destinations):
    with pytest.raises(Changed):
        hand_off(known, destinations.missing, W49, BEN, NOTE, MIDWEEK, etags=("no",))


# What is told


def test_the_ticket_is_assigned_with_the_note_and_the_channel_gets_a_log_line(known, destinations, server, room):
    _, sent = handed(known, destinations)
    assert outcomes(sent) == {"ticket": "sent", "log": "sent"}
    assert server.owner() == "Ben"
    (comment,) = server.comments()
    assert comment.startswith(f"{NOTE}\n\nana hands MediaWiki train 1.46.0-wmf.5 (2026-W49) to ben.")
    assert room.said == [f"!log {NOTE} (MediaWiki train 1.46.0-wmf.5, T400001: ana → ben)"]


def test_the_same_hand_off_again_tells_nothing_again(known, destinations, server, room, calendar, team):
    first, _ = handed(known, destinations)
    again, sent = handed(CalendarSync(calendar, team, MIDWEEK), destinations, at=MIDWEEK + timedelta(minutes=1))
    assert (again.correlation_id, again.outcome.etag) == (first.correlation_id, standing(known).etag)
    assert outcomes(sent) == {"ticket": "sent", "log": "sent"}
    assert (len(server.comments()), len(room.said)) == (1, 1)


def test_handing_back_and_forth_with_the_same_words_is_told_each_time(known, destinations, server, room):
    for n, to in enumerate((BEN, ANA, BEN)):
        handed(known, destinations, to, "your turn", MIDWEEK + timedelta(minutes=n))
    assert (len(server.comments()), len(room.said), server.owner()) == (3, 3, "Ben")


def test_where_nothing_is_set_up_the_calendar_changes_all_the_same(known):
    found, sent = handed(known, Destinations())
    assert found.outcome.reservation.responsible == BEN
    assert {one.target: (one.state, one.detail) for one in sent} == {
        "ticket": ("skipped", "no ticket system is set up; see [tickets]"),
        "log": ("skipped", "no channel is set up; see notify.operations"),
    }


def settled(calendar, team, destinations, at, rounds=7):
    """Let another process work until nothing is due any more; returns the deliveries of the week."""
    sync = CalendarSync(calendar, team, at)
    dispatcher = Dispatcher(sync, destinations)
    for n in range(rounds):
        later = at + n * LEASE
        sync.refresh(later)
        dispatcher.send_due(later)
    return sync.refresh(at).reservation(W49).deliveries


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_channel_that_is_down_for_the_first_tries_gets_it_once(known, calendar, team, server, room, destinations, tries):
    room.down = tries
    _, sent = handed(known, destinations)
    assert outcomes(sent) == {"ticket": "sent", "log": "pending"}
    assert next(one for one in sent if one.target == "log").detail == "the channel is down"
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
    assert {one.target: (one.state, one.attempts) for one in found} == {"ticket": ("sent", 1), "log": ("sent", tries + 1)}
    assert (len(room.said), len(server.comments())) == (1, 1)


@pytest.mark.parametrize("tries", [1, 3])
def test_a_ticket_system_that_is_down_for_the_first_tries_gets_it_once(known, calendar, team, server, destinations, tries):
    server.down = tries
    _, sent = handed(known, destinations)
    assert outcomes(sent) == {"ticket": "pending", "log": "sent"}
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
    assert outcomes(found) == {"ticket": "sent", "log": "sent"}
    assert (len(server.comments()), server.owner()) == (1, "Ben")


def test_a_ticket_system_that_does_not_say_what_it_did_is_asked(known, server, destinations):
    server.silent = ["maniphest.edit"]
    _, sent = handed(known, destinations)
    assert outcomes(sent)["ticket"] == "sent"
    assert len(server.comments()) == 1


def test_a_comment_that_the_ticket_system_is_still_writing_is_not_posted_again(known, calendar, team, server, destinations):
    class Slow:
        """Takes a comment, does not say so, and shows it some time later."""

        def __init__(self):
            self.taken = []

        def post(self, *arguments, **options):
            self.taken.append((arguments, options))
            raise Unsure("the ticket system does not answer")

        def has(self, ticket, mark):
            return destinations.tickets.has(ticket, mark)

    slow = Slow()
    _, sent = handed(known, replace(destinations, tickets=slow))
    assert outcomes(sent)["ticket"] == "claimed"
    for later in (timedelta(seconds=12), LEASE - timedelta(seconds=5)):
        settled(calendar, team, destinations, MIDWEEK + later, rounds=1)
    assert (len(slow.taken), server.comments()) == (1, [])
    ((arguments, options),) = slow.taken
    destinations.tickets.post(*arguments, **options)
    assert outcomes(settled(calendar, team, destinations, MIDWEEK + LEASE))["ticket"] == "sent"
    assert len(server.comments()) == 1


def test_a_comment_that_is_not_there_when_its_claim_is_over_is_posted_again(known, calendar, team, server, destinations):
    class Lost:
        def post(self, *arguments, **options):
            raise Unsure("the ticket system does not answer")

        def has(self, ticket, mark):
            return destinations.tickets.has(ticket, mark)

    handed(known, replace(destinations, tickets=Lost()))
    found = settled(calendar, team, destinations, MIDWEEK + LEASE, rounds=2)
    assert [(one.state, one.detail) for one in found] == [("sent", None), ("sent", None)]
    assert len(server.comments()) == 1


def test_what_nobody_can_tell_is_unknown_and_not_sent_again(known, calendar, team, destinations, room):
    def lost(text):
        room.said.append(text)
        raise Unsure("the connection was lost")

    room.send = lost
    _, sent = handed(known, destinations)
    assert outcomes(sent)["log"] == "unknown"
    assert "may have arrived: the connection was lost" in next(one for one in sent if one.target == "log").detail
    settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
    assert len(room.said) == 1


def test_what_cannot_be_sent_within_a_day_is_given_up_and_says_why(known, calendar, team, destinations, room):
    room.down = 10_000
    handed(known, destinations)
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(days=1, hours=1), rounds=2)
    log = next(one for one in found if one.target == "log")
    assert (log.state, log.detail, room.said) == ("failed", "the channel is down", [])


def test_a_hand_off_that_comes_late_leaves_the_ticket_to_who_is_responsible_by_then(
    known, calendar, team, server, destinations
):
    server.down = 1
    assert outcomes(handed(known, destinations)[1])["ticket"] == "pending"
    handed(known, destinations, ANA, "back again", at=MIDWEEK + timedelta(seconds=1))
    assert server.owner() == "Ana"
    late = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
    assert [(one.state, one.remark) for one in late if one.target == "ticket"] == [
        ("sent", "commented only: ana is responsible now"),
        ("sent", None),
    ]
    assert (server.owner(), len(server.comments())) == ("Ana", 2)


def test_a_message_that_comes_late_says_of_when_it_is(known, calendar, team, server, room, destinations):
    room.down = server.down = 1
    handed(known, destinations)
    told(known, destinations, "the later one", at=MIDWEEK + timedelta(seconds=1), sender="ben", decision=True)
    settled(calendar, team, destinations, MIDWEEK + timedelta(seconds=12), rounds=1)
    assert room.said[0].endswith("the later one (MediaWiki train 1.46.0-wmf.5, T400001: ben)")
    assert room.said[1].endswith("ana → ben) [of Wed 2 Dec 12:00 UTC]")
    assert ["[of Wed 2 Dec 12:00 UTC]" in said for said in server.comments()] == [False, True]


def test_a_hand_off_of_a_week_that_was_released_meanwhile_is_told_no_more(
    known, calendar, team, server, room, destinations
):
    room.down = server.down = 1
    handed(known, destinations)
    reservations.release(known, W49, MIDWEEK + timedelta(seconds=1))
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
    assert {(one.state, one.detail) for one in found} == {("skipped", "2026-W49 was released meanwhile")}
    assert (room.said, server.comments()) == ([], [])


def test_what_became_of_a_released_weeks_messages_can_be_read(site):
    note = {"to": "ben", "note": NOTE}
    assert site.post("/api/reservations/2026-W49/handoff", json=note).status_code == 200
    assert site.delete("/api/reservations/2026-W49").status_code == 200
    told = site.get("/api/reservations/2026-W49/deliveries").json()
    assert [one["target"] for one in told] == ["ticket", "log"]
    assert site.get("/api/reservations/2026-W50/deliveries").status_code == 404


def test_a_message_goes_onto_the_ticket_that_the_week_has_when_it_is_sent(known, calendar, team, server, destinations):
    server.down = 1
    handed(known, destinations)
    reservations.change(known, W49, lambda kept: ReservationRequest(kept.pair, ticket="T400002"), MIDWEEK)
    settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
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
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
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
    told = settled(calendar, team, destinations, MIDWEEK + LEASE)
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
    settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
    assert (len(server.comments()), server.owner()) == (1, "Ben")


def test_who_is_assigned_is_what_the_roster_says_when_it_is_sent(known, calendar, team, server, destinations):
    wrong = [person | {"ticket_user": "Benn"} if person["name"] == "ben" else person for person in TEAM]
    known.agenda = replace(known.agenda, config=configured(conductors=wrong, calendar=NEAR))
    (ticket, _) = handed(known, destinations)[1]
    assert (ticket.state, ticket.detail) == ("pending", 'the ticket system has no user "Benn"; see conductors.ticket_user')
    (ticket, _) = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1))
    assert (ticket.state, ticket.detail, server.owner()) == ("sent", None, "Ben")


def test_why_it_was_only_commented_is_found_anew_at_each_try_and_outlives_a_killed_process(
    known, calendar, team, server, destinations
):
    server.down = 6
    handed(known, destinations)
    handed(known, destinations, ANA, "back again", at=MIDWEEK + timedelta(seconds=1))
    settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
    handed(known, replace(destinations, tickets=None), CEM, "and away", at=MIDWEEK + timedelta(minutes=2))
    server.down = 0

    class Fatal:
        """The process ends as soon as the ticket system has a comment."""

        def post(self, *arguments, **options):
            destinations.tickets.post(*arguments, **options)
            raise KeyboardInterrupt

    later = MIDWEEK + timedelta(minutes=5)
    sync = CalendarSync(calendar, team, later)
    sync.refresh(later)
    with pytest.raises(KeyboardInterrupt):
        Dispatcher(sync, replace(destinations, tickets=Fatal())).send_due(later)
    found = settled(calendar, team, destinations, later + LEASE)
    tickets = [(one.state, one.detail) for one in found if one.target == "ticket" and one.state == "sent"]
    assert tickets == [("sent", "commented only: cem is responsible now")] * 2
    assert (server.owner(), len(server.comments())) == (None, 2)


def test_a_message_for_a_ticket_that_was_taken_away_fails_and_says_so(known, calendar, team, server, destinations):
    server.down = 1
    handed(known, destinations)
    reservations.change(known, W49, lambda kept: ReservationRequest(kept.pair), MIDWEEK)
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
    assert [(one.state, one.detail) for one in found if one.target == "ticket"] == [
        ("failed", "the week no longer has a ticket")
    ]


def test_what_is_no_task_fails_at_once(known, destinations):
    reservations.change(known, W49, lambda kept: ReservationRequest(kept.pair, ticket="hello world"), MIDWEEK)
    (ticket, _) = handed(known, destinations)[1]
    assert (ticket.state, ticket.detail) == ("failed", "hello world is not a task such as T123")


def test_where_the_ticket_system_is_set_up_what_is_no_task_is_refused_with_the_remedy(calendar, now):
    sync = CalendarSync(calendar, secret(), now)
    with pytest.raises(
        Invalid, match=r'"hello world" is not a task of https://phabricator.example.org; write its number as T123'
    ):
        reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), W49, ticket="hello world"), now)
    assert sync.refresh(now).reservation(W49) is None


def test_retries_come_ever_later(known, destinations, room, now):
    room.down = 10_000
    dispatcher, at, waits = Dispatcher(known, destinations), MIDWEEK, []
    found = hand_off(known, destinations.missing, W49, BEN, NOTE, at)
    for _ in range(9):
        (log,) = [one for one in dispatcher.deliver(found.href, found.correlation_id, at) if one.target == "log"]
        waits.append(round((log.not_before - at).total_seconds() / 5) * 5)
        at = log.not_before
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900]


# Ended between each step


class Ended(BaseException):
    """The attempt ends here, as on a signal; no handler of calsync's sees it. Processes are killed in other tests."""


class Fuse:
    """Lets the attempt end before or after the n-th call to any of its ports."""

    def __init__(self, at):
        self.left = at

    def step(self):
        self.left -= 1
        if self.left == 0:
            raise Ended

    def around(self, port, *methods):
        fuse = self

        class Wrapped:
            def __getattr__(self, name):
                call = getattr(port, name)
                if name not in methods:
                    return call

                def stepped(*arguments, **options):
                    fuse.step()
                    answer = call(*arguments, **options)
                    fuse.step()
                    return answer

                return stepped

        return Wrapped()


STEPS = 34
"""At how many places a hand-off can end: before and after each call to calendar, ticket system and channel."""


@pytest.mark.parametrize("at", range(1, STEPS + 2))
def test_ended_between_any_two_steps_each_message_arrives_once_at_the_most(
    known, calendar, team, server, room, destinations, at
):
    fuse = Fuse(at)
    frail = Destinations(fuse.around(destinations.tickets, "post", "has"), Channels(fuse.around(room, "send")))
    sync = CalendarSync(fuse.around(calendar, "put", "changes"), team, MIDWEEK)
    died = False
    try:
        handed(sync, frail)
    except Ended:
        died = True
    assert died == (at <= STEPS), "the hand-off has another number of steps; count them anew"
    landed = standing(known).reservation.responsible == BEN
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(seconds=1), rounds=4)
    assert landed == bool(found)
    assert len(server.comments()) == landed
    assert server.owner() == ("Ben" if landed else None)
    states = outcomes(found)
    if landed:
        assert states["ticket"] == "sent"
        assert states["log"] in ("sent", "unknown")
        assert len(room.said) == 1 or (states["log"] == "unknown" and not room.said)
        assert len(room.said) == 1 or "ended before recording the outcome" in found[-1].detail
    else:
        assert room.said == []


def test_any_number_of_dispatchers_at_once_send_each_message_once(known, tmp_path, team, server, room, destinations):
    room.down, server.down = 1, 1
    handed(known, destinations)
    at = MIDWEEK + timedelta(minutes=1)
    barrier = threading.Barrier(6)

    def work(_):
        calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
        sync = CalendarSync(calendar, team, at)
        sync.refresh(at)
        barrier.wait()
        Dispatcher(sync, destinations).send_due(at)
        calendar.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert (len(room.said), len(server.comments())) == (1, 1)
    assert outcomes(standing(known).deliveries) == {"ticket": "sent", "log": "sent"}


# Processes that are killed


DEADLY = {
    "before the calendar is written": ("put", 1, "before"),
    "once it is written": ("put", 1, "after"),
    "once the ticket's message is claimed": ("put", 2, "after"),
    "once the ticket has it": ("post", 1, "after"),
    "once the channel's message is claimed": ("put", 4, "after"),
    "once the channel has it": ("send", 1, "after"),
    "once that is written down": ("put", 5, "after"),
}


def mortal(*arguments, **options):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CALSYNC_")}
    return subprocess.Popen(
        [sys.executable, "-m", "support.mortal", *map(str, arguments)],
        env=kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}"},
        **options,
    )


@pytest.mark.heavy
@pytest.mark.parametrize("step", DEADLY)
def test_a_hand_off_whose_process_is_killed_at_a_step_is_told_once_at_the_most(
    known,
    calendar,
    tmp_path,
    team,
    server,
    destinations,
    room,
    step,
):
    said = tmp_path / "said"
    said.touch()
    process = mortal("handoff", tmp_path / "deployments.db", server.url, said, *DEADLY[step])
    assert process.wait(60) == -signal.SIGKILL
    landed = standing(known).reservation.responsible == BEN
    assert landed == (step != "before the calendar is written")
    found = outcomes(settled(calendar, team, destinations, MIDWEEK + timedelta(seconds=1), rounds=4))
    lines = said.read_text().splitlines() + room.said
    assert (len(server.comments()), server.owner()) == ((1, "Ben") if landed else (0, None))
    if step in ("once the channel's message is claimed", "once the channel has it"):
        assert found == {"ticket": "sent", "log": "unknown"}
        assert len(lines) == (step == "once the channel has it")
    else:
        assert found == ({"ticket": "sent", "log": "sent"} if landed else {})
        assert len(lines) == landed


@pytest.mark.heavy
def test_of_any_number_of_processes_one_sends_each_message(known, tmp_path, team, server, destinations, room):
    room.down, server.down = 1, 1
    handed(known, destinations)
    said = tmp_path / "said"
    arguments = ("settle", tmp_path / "deployments.db", server.url, said, 60)
    processes = [mortal(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(60) for process in processes] == [0] * 3
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert (len(said.read_text().splitlines()), room.said, len(server.comments())) == (1, [], 1)
    assert outcomes(standing(known).deliveries) == {"ticket": "sent", "log": "sent"}


# A calendar that is away


class Absent:
    """A calendar that goes away at a write, before or after it is done, and stays away until it `is_back`."""

    def __init__(self, calendar, writes, *, done=False):
        self.calendar, self.left, self.done, self.is_back = calendar, writes, done, False

    def __getattr__(self, name):
        if name == "changes" and self.left < 0 and not self.is_back:
            raise Unreachable("The calendar does not answer.")
        return getattr(self.calendar, name)

    def put(self, *arguments, **options):
        self.left -= 1
        if self.left < 0 and not self.is_back:
            if self.done and self.left == -1:
                self.calendar.put(*arguments, **options)
            raise Unreachable("The calendar does not answer.")
        return self.calendar.put(*arguments, **options)


def test_an_outcome_is_written_down_once_the_calendar_is_back(known, calendar, team, room, destinations):
    absent = Absent(calendar, 4)
    sync = CalendarSync(absent, team, MIDWEEK)
    found = hand_off(sync, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    dispatcher = Dispatcher(sync, destinations)
    with pytest.raises(Unreachable):
        dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)
    assert outcomes(standing(known).deliveries)["log"] == "claimed"
    absent.is_back = True
    assert outcomes(dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)) == {"ticket": "sent", "log": "sent"}
    assert len(room.said) == 1


@pytest.mark.parametrize("done", [False, True])
def test_a_message_whose_claim_may_stand_is_sent_once_the_calendar_is_back(known, calendar, team, room, destinations, done):
    absent = Absent(calendar, 3, done=done)
    sync = CalendarSync(absent, team, MIDWEEK)
    found = hand_off(sync, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    dispatcher = Dispatcher(sync, destinations)
    with pytest.raises(Unreachable):
        dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)
    assert (outcomes(standing(known).deliveries)["log"], room.said) == ("claimed" if done else "pending", [])
    absent.is_back = True
    dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)
    assert outcomes(dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)) == {"ticket": "sent", "log": "sent"}
    assert len(room.said) == 1


class Late:
    """A calendar on which the n-th write times out and is done as it is read for the second time after that."""

    def __init__(self, calendar, n):
        self.calendar, self.left, self.held, self.reads = calendar, n, None, 0

    def __getattr__(self, name):
        return getattr(self.calendar, name)

    def put(self, *arguments, **options):
        self.left -= 1
        if self.left == 0:
            self.held = (arguments, options)
            raise Unreachable("The calendar does not answer.")
        return self.calendar.put(*arguments, **options)

    def changes(self, *arguments):
        self.reads += self.held is not None
        if self.held is not None and self.reads == 2:
            (what, options), self.held = self.held, None
            self.calendar.put(*what, **options)
        return self.calendar.changes(*arguments)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_claim_or_an_outcome_that_comes_to_the_calendar_late_is_known_as_ones_own(
    known, calendar, team, room, server, destinations, n
):
    sync = CalendarSync(Late(calendar, n), team, MIDWEEK)
    _, sent = handed(sync, destinations)
    assert outcomes(sent) == {"ticket": "sent", "log": "sent"}
    assert outcomes(settled(calendar, team, destinations, MIDWEEK + LEASE)) == outcomes(sent)
    assert (len(room.said), len(server.comments())) == (1, 1)


def test_two_claims_of_one_process_in_the_same_second_are_two(known, calendar, team, destinations, room):
    """Both threads have read the message as pending; the second one finds the claim of the first."""
    found = hand_off(known, replace(destinations, tickets=None).missing, W49, BEN, NOTE, MIDWEEK)
    dispatcher = Dispatcher(known, destinations)
    (log,) = [one for one in standing(known).deliveries if one.target == "log"]
    said, send = [], room.send

    def meanwhile(text):
        said.append(text)
        if len(said) == 1:
            dispatcher._attempt(HREF, log, MIDWEEK)
        send(text)

    room.send = meanwhile
    dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)
    assert len(said) == 1
    assert outcomes(standing(known).deliveries)["log"] == "sent"


@pytest.mark.parametrize("done", [False, True])
def test_a_hand_off_whose_answer_was_lost_stands_once_when_it_is_asked_for_again(known, calendar, team, destinations, done):
    absent = Absent(calendar, 0, done=done)
    sync = CalendarSync(absent, team, MIDWEEK)
    with pytest.raises(Unreachable):
        hand_off(sync, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    assert (standing(known).reservation.responsible is not None) == done
    absent.is_back = True
    found = hand_off(sync, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    assert found.outcome.reservation.responsible == BEN
    assert {one.correlation_id for one in standing(known).deliveries} == {found.correlation_id}
    assert len(standing(known).deliveries) == 2


def test_a_week_that_goes_away_while_its_message_is_sent_keeps_no_other_from_being_sent(
    known, calendar, destinations, room
):
    said = room.said

    class Gone:
        def send(self, text):
            said.append(text)
            calendar.delete(HREF, etag=standing(known).etag)

    dispatcher = Dispatcher(known, replace(destinations, channels=Channels(Gone(), Gone())))
    found = hand_off(known, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)
    reservations.reserve(known, ReservationRequest(Pair(ANA, BEN), Week(2026, 50)), MIDWEEK)
    second = updates.post_update(Dispatcher(known, destinations), Week(2026, 50), "ben", "news", MIDWEEK)
    assert outcomes(Dispatcher(known, destinations).deliver(second.href, second.correlation_id, MIDWEEK)) == {
        "updates": "sent"
    }
    assert outcomes(dispatcher.deliver(second.href, second.correlation_id, MIDWEEK)) == {"updates": "sent"}
    assert len(said) == 2


# One by itself


W50 = Week(2026, 50)


class Refusing:
    """A calendar that writes nothing more to one week."""

    def __init__(self, calendar, href, error):
        self.calendar, self.href, self.error, self.tries = calendar, href, error, 0

    def __getattr__(self, name):
        return getattr(self.calendar, name)

    def put(self, href, *arguments, **options):
        if href == self.href:
            self.tries += 1
            raise self.error
        return self.calendar.put(href, *arguments, **options)


@pytest.mark.parametrize("error", [Refused("The server refuses it."), Unreachable("500"), ValueError("a defect")])
def test_a_week_on_which_the_calendar_refuses_every_write_keeps_no_other_from_being_told(
    known, calendar, team, destinations, room, caplog, error
):
    reservations.reserve(known, ReservationRequest(Pair(ANA, BEN), W50), MIDWEEK)
    for week in (W49, W50):
        updates.post_update(Dispatcher(known, destinations), week, "ben", f"news of {week}", MIDWEEK)
    refusing = Refusing(calendar, HREF, error)
    sync = CalendarSync(refusing, team, MIDWEEK)
    dispatcher = Dispatcher(sync, destinations)
    for seconds in (20, 30, 40):
        sync.refresh(MIDWEEK + timedelta(seconds=seconds))
        dispatcher.send_due(MIDWEEK + timedelta(seconds=seconds))
    assert [text.split(" (")[0] for text in room.said] == ["ana_: news of 2026-W50"]
    assert sum(f"backing off from {HREF}" in record.message for record in caplog.records) == 1
    refusing.href = None
    dispatcher.send_due(MIDWEEK + timedelta(seconds=40) + BACKOFF)
    assert len(room.said) == 2


def test_an_outcome_that_one_week_does_not_take_keeps_no_other_from_being_told(known, calendar, team, destinations, room):
    """Its claim stands, and what came of it can be written down nowhere."""
    reservations.reserve(known, ReservationRequest(Pair(ANA, BEN), W50), MIDWEEK)
    for week in (W49, W50):
        updates.post_update(Dispatcher(known, destinations), week, "ben", f"news of {week}", MIDWEEK)
    refusing = Refusing(calendar, None, Refused("The server refuses it."))
    sync = CalendarSync(refusing, team, MIDWEEK)
    dispatcher, send = Dispatcher(sync, destinations), room.send

    def lost(text):
        send(text)
        refusing.href = HREF

    room.send = lost
    at = MIDWEEK + timedelta(seconds=20)
    sync.refresh(at)
    dispatcher.send_due(at)
    assert len(room.said) == 2
    found = updates.post_update(Dispatcher(sync, destinations), W50, "ben", "more news", at)
    assert outcomes(dispatcher.deliver(found.href, found.correlation_id, at)) == {"updates": "sent"}


def test_a_calendar_that_is_away_ends_the_round_at_once(known, calendar, team, destinations, room):
    reservations.reserve(known, ReservationRequest(Pair(ANA, BEN), W50), MIDWEEK)
    for week in (W49, W50):
        updates.post_update(Dispatcher(known, destinations), week, "ben", "news", MIDWEEK)
    absent = Absent(calendar, 0)
    sync = CalendarSync(absent, team, MIDWEEK)
    at = MIDWEEK + timedelta(seconds=20)
    sync.refresh(at)
    dispatcher = Dispatcher(sync, destinations)
    with pytest.raises(Unreachable):
        dispatcher.send_due(at)
    assert (absent.left, room.said) == (-1, [])
    absent.is_back = True
    dispatcher.send_due(at)
    assert len(room.said) == 2


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


# Each where it can be sent from


def test_a_process_without_the_ticket_system_leaves_its_messages_to_those_who_have_it(
    known, calendar, team, destinations, server
):
    server.down = 1
    handed(known, destinations)
    alone = replace(destinations, tickets=None)
    before = standing(known).deliveries
    settled(calendar, team, alone, MIDWEEK + timedelta(seconds=20), rounds=8)
    assert standing(known).deliveries == before
    found = settled(calendar, team, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
    assert {one.target: (one.state, one.attempts) for one in found} == {"ticket": ("sent", 2), "log": ("sent", 1)}


def secret(**environ):
    """A configuration that names both places; what `environ` does not have, other processes have."""
    notify = {"operations": "environment"}
    return configured(
        environ, conductors=TEAM, calendar=NEAR, notify=notify, tickets={"url": "https://phabricator.example.org"}
    )


def test_what_is_set_up_elsewhere_is_left_pending_and_says_what_is_missing_here(
    known, calendar, destinations, room, server
):
    here = Destinations.of(secret())
    assert here.unavailable_here == {
        "ticket": "CALSYNC_TICKETS_TOKEN",
        "log": "CALSYNC_NOTIFY_OPERATIONS",
        "announcements": "CALSYNC_NOTIFY_OPERATIONS",
        "updates": "CALSYNC_NOTIFY_OPERATIONS",
    }
    _, sent = handed(known, here)
    assert [(one.state, one.detail) for one in sent] == [
        ("pending", "left to a process that has CALSYNC_TICKETS_TOKEN, which is not set here"),
        ("pending", "left to a process that has CALSYNC_NOTIFY_OPERATIONS, which is not set here"),
    ]
    found, sent = told(known, here, sender="ben")
    assert (found.route.targets, outcomes(sent)) == (("updates",), {"updates": "pending"})
    settled(calendar, known.config, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
    assert {one.state for one in standing(known).deliveries} == {"sent"}
    assert (len(room.said), len(server.comments())) == (2, 1)


def test_what_nobody_could_send_in_time_is_given_up_by_anybody(known, calendar, team):
    handed(known, Destinations.of(secret()))
    day = MIDWEEK + timedelta(days=1)
    assert {one.state for one in settled(calendar, team, Destinations(), day, rounds=1)} == {"pending"}
    assert {one.state for one in settled(calendar, team, Destinations(), day + 2 * LEASE, rounds=1)} == {"failed"}


def test_a_comment_that_nobody_can_look_for_any_more_is_unknown_when_its_time_is_over(
    known, calendar, team, destinations, server
):
    found = hand_off(known, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    entry = standing(known)
    claimed = [one.claim("dead", MIDWEEK) if one.target == "ticket" else one for one in entry.deliveries]
    calendar.put(HREF, write_deliveries(entry.ics, claimed), etag=entry.etag)
    server.down = 10_000
    assert outcomes(settled(calendar, team, destinations, MIDWEEK + LEASE))["ticket"] == "claimed"
    (ticket, _) = settled(calendar, team, destinations, MIDWEEK + timedelta(days=1), rounds=1)
    assert (ticket.correlation_id, ticket.state) == (found.correlation_id, "unknown")
    assert ticket.detail.startswith("it may have arrived: the ticket system answers 503")


def test_without_the_ticket_systems_token_commands_work_and_doctor_says_what_is_missing(run, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CALSYNC_TICKETS_URL", "https://phabricator.example.org")
    assert run("plan", "conductor-eu", "conductor-us", "--week", "2026-W49").code == 0
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49", "--ticket", "T400001")
    said = run("handoff", "2026-W49", "conductor-us", "--note", NOTE)
    assert said.code == 0, said.err
    assert "! ticket T400001: not sent yet, and tried again: left to a process that has CALSYNC_TICKETS_TOKEN" in said.out
    said = run("doctor", at=MIDWEEK)
    assert (said.code, said.err) == (0, "")
    assert "! CALSYNC_TICKETS_TOKEN is not set here, so the messages that need it are left to processes that have it." in (
        said.out
    )
    (secret,) = json.loads(run("doctor", "--json", at=MIDWEEK).out)["missing"]
    assert secret.startswith("CALSYNC_TICKETS_TOKEN is not set here")


def test_the_server_logs_what_it_cannot_send(calendar, caplog):
    with served(secret(CALSYNC_TICKETS_TOKEN=TOKEN), calendar, MIDWEEK):
        pass
    said = [record.message for record in caplog.records if "is not set here" in record.message]
    assert said == [
        "CALSYNC_NOTIFY_OPERATIONS is not set here, so the messages that need it are left to processes that have it."
    ]


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
    found = settled(calendar, known.config, destinations, MIDWEEK + timedelta(minutes=1))
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


# Updates


@pytest.mark.parametrize(
    ("at", "sender", "targets"),
    [
        # Paris is at work from 09:00 to 18:00: 07:00 to 16:00 in UTC in summer, 08:00 to 17:00 in winter.
        ("2026-10-24T07:30", "ben", "updates"),
        ("2026-10-25T07:30", "ben", "ticket"),  # Europe's clocks went back this night
        ("2026-10-25T08:00", "ben", "updates"),
        ("2026-10-25T16:59", "ben", "updates"),
        ("2026-10-25T17:00", "ben", "ticket"),
        ("2027-03-27T07:59", "ben", "ticket"),
        ("2027-03-28T07:00", "ben", "updates"),  # and forward
        ("2027-03-28T16:00", "ben", "ticket"),
        # Denver likewise: 15:00 to 00:00 in UTC in summer, 16:00 to 01:00 in winter.
        ("2026-10-31T15:00", "ana", "updates"),
        ("2026-11-01T15:30", "ana", "ticket"),  # America's clocks went back this night
        ("2026-11-01T16:00", "ana", "updates"),
        ("2026-11-02T00:30", "ana", "updates"),
        ("2026-11-02T01:00", "ana", "ticket"),
        ("2027-03-13T15:30", "ana", "ticket"),
        ("2027-03-14T15:00", "ana", "updates"),  # and forward
        ("2027-03-15T00:00", "ana", "ticket"),
        # In the weeks between, each keeps to its own clock.
        ("2026-10-27T16:30", "ben", "updates"),
        ("2026-10-27T15:30", "ana", "updates"),
        ("2027-03-16T16:30", "ben", "updates"),
        ("2027-03-16T15:30", "ana", "updates"),
    ],
)
def test_an_update_goes_to_the_channel_exactly_while_the_partner_is_at_work(sync, team, now, at, sender, targets):
    partner = {"ana": BEN, "ben": ANA}[sender]
    partner = replace(partner, hours=partner.hours.daily)  # the clocks change on Sundays
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    found = updates.preferred_route(sync.agenda, partner, False, moment)
    assert found.targets == (targets,)
    decided = updates.preferred_route(sync.agenda, partner, True, moment)
    assert decided.targets == ("ticket", "log")


@pytest.mark.parametrize(
    ("at", "days", "targets"),
    [
        # From Monday to Friday, Paris: 07:00 to 16:00 in UTC in summer, 08:00 to 17:00 in winter.
        ("2026-10-23T15:59", "mon-fri", "updates"),
        ("2026-10-23T16:00", "mon-fri", "ticket"),
        ("2026-10-24T10:00", "mon-fri", "ticket"),  # Saturday
        ("2026-10-25T10:00", "mon-fri", "ticket"),  # Sunday, on which the clocks went back
        ("2026-10-26T07:30", "mon-fri", "ticket"),
        ("2026-10-26T08:00", "mon-fri", "updates"),
        ("2026-12-06T10:00", "mon-fri", "ticket"),
        ("2027-03-26T08:00", "mon-fri", "updates"),
        ("2027-03-28T10:00", "mon-fri", "ticket"),  # Sunday, on which they went forward
        ("2027-03-29T07:00", "mon-fri", "updates"),
        ("2027-03-29T06:59", "mon-fri", "ticket"),
        # Other weeks.
        ("2026-10-25T08:00", "sun-thu", "updates"),
        ("2026-10-25T07:30", "sun-thu", "ticket"),
        ("2026-10-23T10:00", "sun-thu", "ticket"),
        ("2026-12-02T10:00", "mon,tue", "ticket"),
        ("2026-12-01T10:00", "mon,tue", "updates"),
    ],
)
def test_an_update_goes_to_the_ticket_on_days_on_which_the_partner_does_not_work(calendar, now, at, days, targets):
    listed = {"mon-fri": None, "sun-thu": ["sun", "mon", "tue", "wed", "thu"], "mon,tue": ["mon", "tue"]}[days]
    team = configured(conductors=[TEAM[0] | ({"days": listed} if listed else {}), *TEAM[1:]])
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    found = updates.preferred_route(CalendarSync(calendar, team, now).agenda, conductor(team, "ana"), False, moment)
    assert found.targets == (targets,)


def test_an_update_on_a_sunday_says_from_when_on_the_partner_is_reached(sync, team):
    found = updates.preferred_route(sync.agenda, ANA, False, datetime(2026, 12, 6, 10, tzinfo=UTC))
    assert found.reason == "it is 11:00 for ana, who is outside working hours until Mon 09:00"


def test_a_partner_whose_feed_cannot_be_read_is_not_taken_for_present_without_saying_so(sync, team):
    agenda = replace(sync.agenda, busy={"ana": Busy(unknown="their busy feed cannot be read (it answers 404)")})
    found = updates.preferred_route(agenda, ANA, False, MIDWEEK)
    assert found.reason == (
        "it is 13:00 for ana, who is within working hours until 18:00; calsync cannot tell whether they are away: "
        "their busy feed cannot be read (it answers 404)"
    )
    assert on_call_status(agenda, ANA, MIDWEEK).unknown == "their busy feed cannot be read (it answers 404)"
    assert on_call_status(agenda, BEN, MIDWEEK).unknown is None


def told(sync, destinations, text="group1 is out", sender="ana", at=MIDWEEK, **options):
    found = updates.post_update(Dispatcher(sync, destinations), W49, sender, text, at, **options)
    return found, Dispatcher(sync, destinations).deliver(found.href, found.correlation_id, at)


def test_an_update_says_where_it_went_and_why(known, destinations, server, room):
    found, sent = told(known, destinations, sender="ben")
    assert outcomes(sent) == {"updates": "sent"}
    assert found.route.reason == "it is 13:00 for ana, who is within working hours until 18:00"
    assert room.said == ["ana_: group1 is out (ben, MediaWiki train 1.46.0-wmf.5, T400001)"]
    found, sent = told(known, destinations)
    assert outcomes(sent) == {"ticket": "sent"}
    assert found.route.reason == "it is 05:00 for ben, who is outside working hours until Wed 09:00"
    assert (server.comments()[0].startswith("group1 is out\n\nana"), server.owner()) == (True, None)


def test_a_decision_goes_onto_the_ticket_and_into_the_log(known, destinations, server, room):
    _, sent = told(known, destinations, "rolling back", decision=True)
    assert outcomes(sent) == {"ticket": "sent", "log": "sent"}
    assert room.said == ["!log rolling back (MediaWiki train 1.46.0-wmf.5, T400001: ana)"]
    assert len(server.comments()) == 1


def test_a_partner_who_is_away_reads_it_on_the_ticket(known, destinations):
    absences.add_absence(known, "ana", date(2026, 12, 2), date(2026, 12, 2), MIDWEEK)
    found, sent = told(known, destinations, sender="ben")
    assert outcomes(sent) == {"ticket": "sent"}
    assert found.route.reason == "ana is away until Thu 00:00 Europe/Paris"


def test_where_its_place_is_not_set_up_an_update_takes_the_other(known, destinations, room):
    alone = replace(destinations, tickets=None)
    found, sent = told(known, alone)
    assert outcomes(sent) == {"updates": "sent"}
    assert found.route.reason.endswith("it goes to the channel instead, because no ticket system is set up; see [tickets]")
    _, sent = told(known, alone, "rolling back", decision=True)
    assert outcomes(sent) == {"ticket": "skipped", "log": "sent"}
    _, sent = told(known, replace(destinations, channels=Channels()), "news", "ben")
    assert outcomes(sent) == {"ticket": "sent"}
    with pytest.raises(Invalid, match="There is nowhere to send it"):
        told(known, Destinations(), "more news")


def test_the_same_words_again_at_once_are_one_update(known, destinations, room):
    for minutes in (0, 1, 9):
        told(known, destinations, sender="ben", at=MIDWEEK + timedelta(minutes=minutes))
    assert len(room.said) == 1
    told(known, destinations, sender="ben", at=MIDWEEK + timedelta(minutes=11))
    assert len(room.said) == 2


def test_updates_come_from_those_who_conduct_and_go_to_who_is_responsible(known, destinations):
    with pytest.raises(Invalid, match="updates come from ana and ben"):
        told(known, destinations, sender="zoe")
    handed(known, destinations, CEM)
    reservation = standing(known).reservation
    partners = [updates.partner_of(reservation, who).name for who in ("ana", "ben", "cem")]
    assert partners == ["cem", "cem", "ana"]


# Over HTTP and on the command line


@pytest.fixture
def site(calendar, team, destinations):
    with served(team, calendar, MIDWEEK, destinations=destinations) as site:
        body = {"week": "2026-W49", "train": "1.46.0-wmf.5", "ticket": "T400001", "primary": "ana", "backup": "ben"}
        assert site.post("/api/reservations", json=body).status_code == 201
        yield site


def test_the_api_hands_off_and_tells_what_became_of_each_message(site, room):
    body = {"to": "ben", "note": NOTE}
    answer = site.post("/api/reservations/2026-W49/handoff", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["reservation"]["responsible"] == "ben"
    assert [(one["target"], one["state"]) for one in found["deliveries"]] == [("ticket", "sent"), ("log", "sent")]
    site.app.state.calsync.refresh()
    duties = site.get("/api/now", params={"at": "2026-12-03T09:30:00Z"}).json()["running"]
    assert [duty["responsible"] for duty in duties] == [["ben"]]
    listed = site.get("/api/reservations/2026-W49/deliveries").json()
    assert [(one["target"], one["state"]) for one in listed] == [("ticket", "sent"), ("log", "sent")]
    problem(site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": "again"}), 422, "invalid")
    problem(site.post("/api/reservations/2026-W49/handoff", json={"to": "zoe", "note": "x"}), 422, "invalid")
    problem(site.post("/api/reservations/2026-W50/handoff", json=body), 404, "not-reserved")
    stale = site.post("/api/reservations/2026-W49/handoff", json={"to": "ana", "note": "x"}, headers={"If-Match": '"no"'})
    problem(stale, 412, "changed")
    assert len(room.said) == 1


def test_the_etag_of_the_answer_is_that_of_the_week_once_everything_is_told(site, calendar):
    for to, patched in (("ben", "T2"), ("ana", "T3")):
        answer = site.post("/api/reservations/2026-W49/handoff", json={"to": to, "note": NOTE}).json()
        etag = answer["reservation"]["etag"]
        (stored,) = [one for one in calendar.changes(None).changed if one.href == HREF]
        assert etag == stored.etag
        change = {"ticket": patched}
        answer = site.patch("/api/reservations/2026-W49", json=change, headers={"If-Match": f'"{etag}"'})
        assert answer.status_code == 200, answer.text


def test_the_etag_of_the_answer_is_not_that_of_what_somebody_else_made_of_the_week(known, calendar, team, destinations):
    found = hand_off(known, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    other = CalendarSync(calendar, team, MIDWEEK)
    reservations.change(other, W49, lambda kept: ReservationRequest(kept.pair, train="2", ticket=kept.ticket), MIDWEEK)
    told, _ = send_handoff(Dispatcher(known, destinations), found, MIDWEEK)
    assert told.outcome.etag == found.outcome.etag != standing(known).etag


def test_the_api_takes_updates(site, room):
    answer = site.post("/api/reservations/2026-W49/updates", json={"from": "ben", "text": "group1 is out"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["to"], found["deliveries"][0]["state"]) == (["updates"], "sent")
    assert found["reason"] == "it is 13:00 for ana, who is within working hours until 18:00"
    problem(site.post("/api/reservations/2026-W49/updates", json={"from": "zoe", "text": "x"}), 422, "invalid")
    problem(site.post("/api/reservations/2026-W49/updates", json={"from": "ben", "text": "a\nb"}), 422, "invalid")


def test_the_server_sends_later_what_it_could_not_send_at_once(calendar, team, destinations, room):
    clock = [MIDWEEK]
    room.down = 1
    with served(team, calendar, MIDWEEK, destinations=destinations) as site:
        site.app.state.calsync.clock = lambda: clock[0]
        body = {"week": "2026-W49", "ticket": "T400001", "primary": "ana", "backup": "ben"}
        site.post("/api/reservations", json=body)
        answer = site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": NOTE}).json()
        assert answer["deliveries"][1]["state"] == "pending"
        assert answer["deliveries"][1]["due"] == "2026-12-02T12:00:05Z"
        clock[0] += timedelta(seconds=6)
        deadline = threading.Event()
        for _ in range(200):
            if room.said:
                break
            deadline.wait(0.05)
    assert len(room.said) == 1


def test_the_server_tries_again_when_it_said_however_seldom_it_asks_the_calendar(calendar, destinations, room, monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_RETRY", timedelta(seconds=1))
    monkeypatch.setattr(dispatcher, "MAX_PAUSE", timedelta(seconds=1))
    seldom = configured(conductors=TEAM, calendar=NEAR | {"refresh": "15m"})
    begun = time.monotonic()
    room.down = 1
    with served(seldom, calendar, MIDWEEK, destinations=destinations) as site:
        site.app.state.calsync.clock = lambda: MIDWEEK + timedelta(seconds=time.monotonic() - begun)
        site.post("/api/reservations", json={"week": "2026-W49", "primary": "ana", "backup": "ben"})
        site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": NOTE})
        assert room.said == []
        until(lambda: room.said, within=15)


def test_the_feed_of_the_former_responsible_still_has_their_slots(site):
    site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": NOTE})
    site.app.state.calsync.refresh()
    theirs = events(site.get("/deployments.ics", params={"conductor": "ana", "only": "reservations"}))
    assert "2026-12-03-european@calsync" in theirs
    assert str(theirs["2026-12-03-european@calsync"]["SUMMARY"]).endswith("– ben")


def test_the_command_line_hands_off_and_updates(run, monkeypatch, server):  # noqa: F811
    monkeypatch.setenv("CALSYNC_TICKETS_URL", server.url)
    monkeypatch.setenv("CALSYNC_TICKETS_TOKEN", TOKEN)
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49", "--ticket", "T400001")
    said = run("handoff", "2026-W49", "conductor-us", "--note", NOTE)
    assert said.code == 0, said.err
    assert "conductor-us is responsible for 2026-W49 now." in said.out
    assert "✓ ticket T400001: sent: commented only: conductors.ticket_user of conductor-us is not set" in said.out
    assert "· operations channel: skipped: no channel is set up; see notify.operations" in said.out
    said = run("update", "2026-W49", "group1 is out", "--from", "conductor-eu")
    assert said.code == 0, said.err
    assert "✓ ticket T400001: sent" in said.out
    assert len(server.comments()) == 2
    found = run("handoff", "2026-W49", "cem@Europe/Berlin", "--note", "yours", "--json").json
    assert HandoffOut.model_validate(found).reservation.responsible == "cem"
    found = run("update", "2026-W49", "news", "--from", "cem", "--json").json
    assert UpdateOut.model_validate(found).to == ["ticket"]
    assert run("update", "2026-W49", "group1 is out", "--from", "zoe").code == 2
    assert run("handoff", "2026-W50", "conductor-us", "--note", "x").code == 2


def test_doctor_lists_the_messages_that_did_not_arrive_or_may_not_have(known, run, calendar, team):  # noqa: F811
    def told(cause, target, state, detail):
        return replace(new_delivery(cause, target, f"!log {cause}\nnews", MIDWEEK), state=state, detail=detail)

    entry = standing(known)
    made = [
        told("update-1", "log", "failed", "the [bold] channel is down"),
        told("update-2", "updates", "unknown", "it may have arrived"),
        told("update-3", "log", "sent", None),
        told("update-4", "ticket", "skipped", "there is no ticket"),
    ]
    calendar.put(HREF, write_deliveries(entry.ics, made), etag=entry.etag)
    said = run("doctor", at=MIDWEEK)
    assert said.code == 1
    assert "✗ 2026-W49: a message (log) did not arrive (the [bold] channel is down): !log update-1 news" in said.out
    assert "✗ 2026-W49: a message (updates) may have arrived or not (it may have arrived): !log update-2 news" in said.out
    assert "update-3" not in said.out + said.err
    assert "update-4" not in said.out + said.err
    found = run("doctor", "--json", at=MIDWEEK)
    assert [(one["week"], one["about"], one["state"]) for one in found.json["messages"]] == [
        ("2026-W49", "update-1", "failed"),
        ("2026-W49", "update-2", "unknown"),
    ]
    assert run("doctor", at=datetime(2026, 12, 8, tzinfo=UTC)).code == 0


# The page


def test_the_page_shows_whom_to_ask_the_rotation_absences_and_messages_that_did_not_arrive(calendar, destinations, room):
    rotation = {"order": ["ana", "ben", "cem"], "start": "2026-W49"}
    team = [TEAM[0] | {"video": "https://meet.example.org/ana"}, *TEAM[1:]]
    config = configured(conductors=team, rotation=rotation)
    room.down = 1
    with served(config, calendar, MIDWEEK, destinations=destinations) as site:
        site.post("/api/reservations", json={"week": "2026-W49", "ticket": "T400001", "primary": "ana", "backup": "ben"})
        site.post("/api/reservations/2026-W49/handoff", json={"to": "ben", "note": "<b>blocked</b>"})
        site.post("/api/away", json={"conductor": "cem", "start": "2026-12-08", "end": "2026-12-08", "note": "<i>fair</i>"})
        site.app.state.calsync.refresh()
        page = " ".join(site.get("/").text.split())
    assert "<bdi>ana</bdi></strong> is within working hours until 18:00 (Europe/Paris); IRC: <bdi>ana_</bdi>" in page
    assert '<a href="https://meet.example.org/ana">video room<' in page
    assert '<a href="/week/2026-W50?tz=UTC">2026-W50</a></th> <td><bdi>ben</bdi></td> <td><bdi>ana</bdi></td>' in page
    assert "Turns from 2026-W49 to 2027-W47: <bdi>ana</bdi> " in page
    assert "<strong><bdi>cem</bdi></strong>, Tue 08 Dec: <bdi>&lt;i&gt;fair&lt;/i&gt;</bdi>" in page
    assert "2026-W49, log: not sent yet (<bdi>the channel is down</bdi>): <bdi>!log &lt;b&gt;blocked&lt;/b&gt; (" in page


# Ask first


def test_now_says_how_to_reach_each_of_the_pair(calendar, now):
    team = [TEAM[0] | {"video": "https://meet.example.org/ana"}, *TEAM[1:]]
    config = configured(conductors=team, train={"video_url": "https://meet.example.org/train-{week}"})
    with served(config, calendar, MIDWEEK) as site:
        site.post("/api/reservations", json={"week": "2026-W49", "primary": "ana", "backup": "ben"})
        site.post(
            "/api/away", json={"conductor": "ana", "start": "2026-12-02T12:00:00+01:00", "end": "2026-12-02T15:00:00+01:00"}
        )
        site.app.state.calsync.refresh()
        ana, ben = site.get("/api/now").json()["conductors"]
        assert (ana["irc"], ana["video"]) == ("ana_", "https://meet.example.org/ana")
        assert (ana["working"], ana["until"], ana["away"]) == (
            True,
            "2026-12-02T18:00:00+01:00",
            "2026-12-02T15:00:00+01:00",
        )
        assert (ben["irc"], ben["video"], ben["away"]) == (None, "https://meet.example.org/train-2026-W49", None)
        assert (ben["working"], ben["until"]) == (False, "2026-12-02T09:00:00-07:00")
        # On a Sunday nobody is at work.
        first = site.get("/api/now", params={"at": "2026-11-29T11:00:00+01:00"}).json()["conductors"][0]
        assert (first["working"], first["until"]) == (False, "2026-11-30T09:00:00+01:00")


def test_every_slot_has_the_video_room_on_the_calendar_and_in_the_feed(calendar, now):
    config = configured(train={"video_url": "https://meet.example.org/train-{week}"})
    with served(config, calendar, now) as site:
        site.post("/api/reservations", json=WEEK)
        site.app.state.calsync.refresh()
        feed = site.get("/deployments.ics").content
    stored = next(one.ics for one in calendar.changes(None).changed if one.href == HREF)
    for text in (feed, stored):
        slots = Calendar.from_ical(text).events
        assert len(slots) >= 6
        for slot in slots:
            assert str(slot["CONFERENCE"]) == "https://meet.example.org/train-2026-W49"
            assert slot["CONFERENCE"].params["VALUE"] == "URI"
            assert slot["CONFERENCE"].params["FEATURE"] == ["AUDIO", "VIDEO"]
