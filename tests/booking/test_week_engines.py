"""The pair's week on calendars that other replicas, servers and people share: rotation, absences, hand-off, updates."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from calsync.booking import absences
from calsync.booking.handoff import hand_off
from calsync.booking.reservations import change, release, reserve
from calsync.booking.rotation import reserve_weeks
from calsync.core.conductors import Pair
from calsync.core.errors import CalendarError
from calsync.notifications.announcer import announce
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.notifications.updates import post_update
from calsync.schedule.absences import list_absences
from calsync.schedule.check import ReservationRequest
from calsync.schedule.rotation import rotation
from calsync.schedule.sync import CalendarSync
from support.actions import QUICK
from support.engines import Place
from support.pair import ANA, BEN, CEM, HREF, MIDWEEK, NOTE, TEAM, W49, outcomes

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROTATION = {"order": ["ana", "ben", "cem"], "start": "2026-W49"}


def replica(place, url=None, now=NOW):
    """Another process on the calendar, which has read it."""
    config = place.config(url, conductors=TEAM, rotation=ROTATION, calendar=QUICK)
    sync = CalendarSync(place.open(url), config, now)
    sync.refresh(now)
    return sync


def held(sync):
    """A week with a ticket, reserved for ana and ben."""
    reserve(sync, ReservationRequest(Pair(ANA, BEN), W49, "1.46.0-wmf.5", "T400001"), NOW)


def standing(place, now=MIDWEEK):
    """The week as somebody reads it who knows nothing yet."""
    return replica(place, now=now).agenda.reservation(W49)


def test_the_rotation_is_reserved_once_and_goes_on_around_who_is_away(place):
    first, second = replica(place), replica(place)
    absences.add_absence(first, "ben", datetime(2026, 12, 8).date(), datetime(2026, 12, 8).date(), NOW)
    assert [one.result for one in reserve_weeks(first, 3, NOW)] == ["reserved"] * 3
    assert [one.result for one in reserve_weeks(second, 3, NOW)] == ["stands"] * 3
    known, fresh = (rotation(one.refresh(NOW), NOW, 6) for one in (first, replica(place)))
    assert known == fresh
    pairs = [(turn.primary, turn.backup) for turn in fresh.turns[:3]]
    assert pairs[0][0] == "ana"
    assert "ben" not in pairs[1]
    assert [turn.state for turn in fresh.turns] == ["reserved"] * 3 + ["no-train", "no-train", "planned"]


def test_an_absence_comes_and_goes_for_every_replica(place):
    first, second = replica(place), replica(place)
    held(first)
    day = datetime(2026, 12, 2).date()
    made = absences.add_absence(first, "ana", day, day, NOW, note="fair")
    again = absences.add_absence(second, "ana", day, day, NOW, note="fair")
    assert (made.created, again.created, made.name) == (True, False, again.name)
    assert [(one.slot, [who.name for who in one.cover]) for one in again.conflicts] == [("2026-12-02-european", ["ben"])]
    assert [(one.start, one.end, one.all_day) for one in list_absences(second.agenda, NOW)] == [(day, day, True)]
    absences.remove_absence(second, made.name, NOW)
    first.refresh(NOW)
    assert list_absences(first.agenda, NOW) == []
    assert absences.add_absence(first, "ana", day, day, NOW, note="fair").created


def test_a_hand_off_and_its_messages_stand_for_every_replica_and_are_sent_once(place, destinations, room, server):
    first, second = replica(place), replica(place)
    held(first)
    found = hand_off(first, destinations.missing, W49, BEN, NOTE, MIDWEEK, author="ana")
    assert hand_off(second, destinations.missing, W49, BEN, NOTE, MIDWEEK).correlation_id == found.correlation_id
    for sync in (first, second):
        assert outcomes(Dispatcher(sync, destinations).deliver(HREF, found.correlation_id, MIDWEEK)) == {
            "ticket": "sent",
            "log": "sent",
        }
    assert (len(room.said), len(server.comments())) == (1, 1)
    entry = standing(place)
    assert (entry.reservation.responsible, entry.changes) == (BEN, ())
    assert outcomes(entry.deliveries) == {"ticket": "sent", "log": "sent"}


def test_messages_outlive_a_change_and_a_release_by_another_replica(place, destinations):
    first, second = replica(place), replica(place)
    held(first)
    told = post_update(Dispatcher(first, destinations), W49, "ana", "group1 is out", MIDWEEK)
    Dispatcher(first, destinations).deliver(HREF, told.correlation_id, MIDWEEK)
    change(second, W49, lambda kept: ReservationRequest(kept.pair, train="1.46.0-wmf.6"), MIDWEEK)
    assert outcomes(standing(place).deliveries) == {"ticket": "sent"}
    change(second, W49, lambda kept: ReservationRequest(Pair(ANA, CEM)), MIDWEEK)
    assert outcomes(standing(place).deliveries) == {"ticket": "sent"}
    release(second, W49, MIDWEEK)
    assert outcomes(standing(place).deliveries) == {"ticket": "sent"}


def test_an_update_leaves_what_people_did_to_the_week(caldav, destinations):
    first = replica(caldav)
    held(first)

    def move(calendar):
        for component in calendar.events:
            if str(component.get("X-CALSYNC-SLOT", "")) == "2026-12-03-american":
                for name in ("DTSTART", "DTEND"):
                    component.add(name, component.pop(name).dt + timedelta(hours=1))

    caldav.person().edit(HREF, move)
    before = standing(caldav)
    assert before.changes
    told = post_update(Dispatcher(first, destinations), W49, "ana", "group1 is out", MIDWEEK)
    Dispatcher(first, destinations).deliver(HREF, told.correlation_id, MIDWEEK)
    after = standing(caldav)
    assert (after.changes, after.reservation, after.mark) == (before.changes, before.reservation, before.mark)
    assert outcomes(after.deliveries) == {"ticket": "sent"}


def test_each_slot_is_announced_once_by_several_announcers(place, room):
    destinations, at = Destinations(None, Channels(room, room)), datetime(2026, 12, 1, 9, 1, tzinfo=UTC)
    held(replica(place))
    for sync in (replica(place, now=at), replica(place, now=at)):
        announce(Dispatcher(sync, destinations), at, timedelta())
        Dispatcher(sync, destinations).send_due(at)
        sync.refresh(at)
    assert len(room.said) == 1
    assert outcomes(standing(place, at).deliveries) == {"announcements": "sent"}


@pytest.mark.heavy
@pytest.mark.parametrize("engine", ["postgresql", "radicale"])
def test_a_hand_off_cut_off_at_a_request_is_as_before_or_as_asked_and_told_once_when_it_is_asked_for_again(
    engine, running, tmp_path, destinations, room, server
):
    with Place(engine, running, tmp_path) as place:
        proxy = place.proxy()
        held(replica(place))
        seen, sync = replica(place, now=MIDWEEK), replica(place, proxy.through(place.url), MIDWEEK)
        dispatcher = Dispatcher(sync, destinations)
        people = itertools.cycle([BEN, ANA])

        def week(sync):
            return sync.refresh(MIDWEEK).reservation(W49).reservation

        def hand_over(to, note):
            found = hand_off(sync, destinations.missing, W49, to, note, MIDWEEK)
            return dispatcher.deliver(found.href, found.correlation_id, MIDWEEK)

        hand_over(next(people), "first")
        already = len(proxy.requests)
        hand_over(next(people), "second")
        answered = set()
        taken = len(proxy.requests) - already
        for n in range(1, taken + 1, -(-taken // 12)):
            to, note, fault = next(people), f"cut {n}", "after" if n % 3 else "before"
            before = week(seen).responsible
            proxy.plan(n, fault)
            try:
                hand_over(to, note)
                answered.add(True)
            except CalendarError:
                answered.add(False)
            assert week(seen).responsible in (before, to), note
            proxy.heal()
            sent = hand_over(to, note)
            if any(one.state != "sent" for one in sent):  # it was the calendar's turn to learn of what was known here alone
                sent = hand_over(to, note)
            assert outcomes(sent) == {"ticket": "sent", "log": "sent"}, note
            assert len([text for text in room.said if f"!log {note} " in text]) == 1, note
            assert len([text for text in server.comments() if text.startswith(f"{note}\n")]) == 1, note
        assert False in answered
