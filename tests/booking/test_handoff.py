"""Hand-offs and updates: the calendar first, and each message once, whatever dies or is away meanwhile."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from icalendar import Calendar

from calsync.booking import absences, reservations
from calsync.booking.handoff import hand_off
from calsync.core.conductors import Pair
from calsync.core.conflict import Conflicted
from calsync.core.errors import Changed, Invalid, Unreachable
from calsync.notifications import updates
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.check import ReservationRequest
from calsync.schedule.conflicts import conflicts_of_reservations as standing_conflicts
from calsync.schedule.sync import CalendarSync
from support.failing import Absent
from support.pair import ANA, BEN, CEM, MIDWEEK, NOTE, W49, handed, outcomes, settled, standing, with_secrets_elsewhere
from support.samples import ics


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
    settled(known, destinations, MIDWEEK + timedelta(minutes=2))
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


def test_where_the_ticket_system_is_set_up_what_is_no_task_is_refused_with_the_remedy(calendar, now):
    sync = CalendarSync(calendar, with_secrets_elsewhere(), now)
    with pytest.raises(
        Invalid, match=r'"hello world" is not a task of https://phabricator.example.org; write its number as T123'
    ):
        reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), W49, ticket="hello world"), now)
    assert sync.refresh(now).reservation(W49) is None


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
