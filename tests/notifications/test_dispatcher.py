"""Messages are sent once, tried again, and given up; where an outage leaves them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from calsync.booking import reservations
from calsync.booking.handoff import hand_off
from calsync.core.conductors import Pair
from calsync.core.delivery import LEASE, Unsure
from calsync.core.errors import Refused, Unreachable
from calsync.core.weeks import Week
from calsync.ical.delivery import write_deliveries
from calsync.notifications import updates
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import BACKOFF, Dispatcher
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from support.failing import Absent, Late, Refusing
from support.pair import (
    ANA,
    BEN,
    CEM,
    HREF,
    MIDWEEK,
    NEAR,
    NOTE,
    TEAM,
    W49,
    W50,
    handed,
    outcomes,
    settled,
    standing,
    told,
    with_secrets_elsewhere,
)
from support.samples import configured


def test_where_nothing_is_set_up_the_calendar_changes_all_the_same(known):
    found, sent = handed(known, Destinations())
    assert found.outcome.reservation.responsible == BEN
    assert {one.target: (one.state, one.detail) for one in sent} == {
        "ticket": ("skipped", "no ticket system is set up; see [tickets]"),
        "log": ("skipped", "no channel is set up; see notify.operations"),
    }


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_channel_that_is_down_for_the_first_tries_gets_it_once(known, calendar, team, server, room, destinations, tries):
    room.down = tries
    _, sent = handed(known, destinations)
    assert outcomes(sent) == {"ticket": "sent", "log": "pending"}
    assert next(one for one in sent if one.target == "log").detail == "the channel is down"
    found = settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    assert {one.target: (one.state, one.attempts) for one in found} == {"ticket": ("sent", 1), "log": ("sent", tries + 1)}
    assert (len(room.said), len(server.comments())) == (1, 1)


@pytest.mark.parametrize("tries", [1, 3])
def test_a_ticket_system_that_is_down_for_the_first_tries_gets_it_once(known, calendar, team, server, destinations, tries):
    server.down = tries
    _, sent = handed(known, destinations)
    assert outcomes(sent) == {"ticket": "pending", "log": "sent"}
    found = settled(known, destinations, MIDWEEK + timedelta(minutes=1))
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
        settled(known, destinations, MIDWEEK + later, rounds=1)
    assert (len(slow.taken), server.comments()) == (1, [])
    ((arguments, options),) = slow.taken
    destinations.tickets.post(*arguments, **options)
    assert outcomes(settled(known, destinations, MIDWEEK + LEASE))["ticket"] == "sent"
    assert len(server.comments()) == 1


def test_a_comment_that_is_not_there_when_its_claim_is_over_is_posted_again(known, calendar, team, server, destinations):
    class Lost:
        def post(self, *arguments, **options):
            raise Unsure("the ticket system does not answer")

        def has(self, ticket, mark):
            return destinations.tickets.has(ticket, mark)

    handed(known, replace(destinations, tickets=Lost()))
    found = settled(known, destinations, MIDWEEK + LEASE, rounds=2)
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
    settled(known, destinations, MIDWEEK + timedelta(minutes=1))
    assert len(room.said) == 1


def test_what_cannot_be_sent_within_a_day_is_given_up_and_says_why(known, calendar, team, destinations, room):
    room.down = 10_000
    handed(known, destinations)
    found = settled(known, destinations, MIDWEEK + timedelta(days=1, hours=1), rounds=2)
    log = next(one for one in found if one.target == "log")
    assert (log.state, log.detail, room.said) == ("failed", "the channel is down", [])


def test_who_is_assigned_is_what_the_roster_says_when_it_is_sent(known, calendar, team, server, destinations):
    wrong = [person | {"ticket_user": "Benn"} if person["name"] == "ben" else person for person in TEAM]
    known.agenda = replace(known.agenda, config=configured(conductors=wrong, calendar=NEAR))
    (ticket, _) = handed(known, destinations)[1]
    assert (ticket.state, ticket.detail) == ("pending", 'the ticket system has no user "Benn"; see conductors.ticket_user')
    (ticket, _) = settled(CalendarSync(calendar, team, MIDWEEK), destinations, MIDWEEK + timedelta(minutes=1))
    assert (ticket.state, ticket.detail, server.owner()) == ("sent", None, "Ben")


def test_why_it_was_only_commented_is_found_anew_at_each_try_and_outlives_a_killed_process(
    known, calendar, team, server, destinations
):
    server.down = 6
    handed(known, destinations)
    handed(known, destinations, ANA, "back again", at=MIDWEEK + timedelta(seconds=1))
    settled(known, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
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
    found = settled(known, destinations, later + LEASE)
    tickets = [(one.state, one.detail) for one in found if one.target == "ticket" and one.state == "sent"]
    assert tickets == [("sent", "commented only: cem is responsible now")] * 2
    assert (server.owner(), len(server.comments())) == (None, 2)


def test_what_is_no_task_fails_at_once(known, destinations):
    reservations.change(known, W49, lambda kept: ReservationRequest(kept.pair, ticket="hello world"), MIDWEEK)
    (ticket, _) = handed(known, destinations)[1]
    assert (ticket.state, ticket.detail) == ("failed", "hello world is not a task such as T123")


def test_retries_come_ever_later(known, destinations, room, now):
    room.down = 10_000
    dispatcher, at, waits = Dispatcher(known, destinations), MIDWEEK, []
    found = hand_off(known, destinations.missing, W49, BEN, NOTE, at)
    for _ in range(9):
        (log,) = [one for one in dispatcher.deliver(found.href, found.correlation_id, at) if one.target == "log"]
        waits.append(round((log.not_before - at).total_seconds() / 5) * 5)
        at = log.not_before
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900]


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


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_a_claim_or_an_outcome_that_comes_to_the_calendar_late_is_known_as_ones_own(
    known, calendar, team, room, server, destinations, n
):
    sync = CalendarSync(Late(calendar, n), team, MIDWEEK)
    _, sent = handed(sync, destinations)
    assert outcomes(sent) == {"ticket": "sent", "log": "sent"}
    assert outcomes(settled(known, destinations, MIDWEEK + LEASE)) == outcomes(sent)
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


# Each where it can be sent from


def test_a_process_without_the_ticket_system_leaves_its_messages_to_those_who_have_it(
    known, calendar, team, destinations, server
):
    server.down = 1
    handed(known, destinations)
    alone = replace(destinations, tickets=None)
    before = standing(known).deliveries
    settled(known, alone, MIDWEEK + timedelta(seconds=20), rounds=8)
    assert standing(known).deliveries == before
    found = settled(known, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
    assert {one.target: (one.state, one.attempts) for one in found} == {"ticket": ("sent", 2), "log": ("sent", 1)}


def test_what_is_set_up_elsewhere_is_left_pending_and_says_what_is_missing_here(
    known, calendar, destinations, room, server
):
    here = Destinations.of(with_secrets_elsewhere())
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
    settled(known, destinations, MIDWEEK + timedelta(minutes=1), rounds=1)
    assert {one.state for one in standing(known).deliveries} == {"sent"}
    assert (len(room.said), len(server.comments())) == (2, 1)


def test_what_nobody_could_send_in_time_is_given_up_by_anybody(known, calendar, team):
    handed(known, Destinations.of(with_secrets_elsewhere()))
    day = MIDWEEK + timedelta(days=1)
    assert {one.state for one in settled(known, Destinations(), day, rounds=1)} == {"pending"}
    assert {one.state for one in settled(known, Destinations(), day + 2 * LEASE, rounds=1)} == {"failed"}


def test_a_comment_that_nobody_can_look_for_any_more_is_unknown_when_its_time_is_over(
    known, calendar, team, destinations, server
):
    found = hand_off(known, destinations.missing, W49, BEN, NOTE, MIDWEEK)
    entry = standing(known)
    claimed = [one.claim("dead", MIDWEEK) if one.target == "ticket" else one for one in entry.deliveries]
    calendar.put(HREF, write_deliveries(entry.ics, claimed), etag=entry.etag)
    server.down = 10_000
    assert outcomes(settled(known, destinations, MIDWEEK + LEASE))["ticket"] == "claimed"
    (ticket, _) = settled(known, destinations, MIDWEEK + timedelta(days=1), rounds=1)
    assert (ticket.correlation_id, ticket.state) == (found.correlation_id, "unknown")
    assert ticket.detail.startswith("it may have arrived: the ticket system answers 503")
