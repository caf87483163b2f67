import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from calsync.booking import reservations
from calsync.booking.reservations import release, reserve
from calsync.calendars.sql import SqlCalendar
from calsync.core.conductors import Pair
from calsync.core.conflict import Conflicted, ReservedByAnother
from calsync.core.errors import Changed, Invalid, NotReserved, Unreachable
from calsync.core.weeks import Week
from calsync.schedule.check import ReservationRequest, check_request
from calsync.schedule.sync import CalendarSync
from support.failing import Meddled
from support.samples import EU, PAIR, US, configured, decoded, ics, person, utc

WEEK = Week(2026, 49)
REQUEST = ReservationRequest(PAIR, WEEK, train="1.46.0-wmf.5", ticket="T400001")
OTHERS = Pair(person("p", "Europe/Paris"), person("q", "America/Denver"))
IN_THE_WAY = ics("DTSTART:20261202T093000Z", "DTEND:20261202T100000Z", "SUMMARY:hotfix", uid="hotfix")


def change(sync, week, request, now, **more):
    return reservations.change(sync, week, lambda _standing: request, now, **more)


@pytest.fixture
def everything(calendar):
    return lambda: {resource.href: (resource.etag, resource.ics) for resource in calendar.changes(None).changed}


def standing(sync, now, week=WEEK):
    return sync.refresh(now).reservation(week).reservation


def test_a_reservation_is_one_resource_with_every_slot(sync, now, everything):
    outcome = reserve(sync, REQUEST, now, author="ops")
    assert outcome.created
    assert len(outcome.reservation.slots) == 6
    assert outcome.reservation == standing(sync, now)
    assert {href: etag for href, (etag, _) in everything().items()} == {"train-2026-W49.ics": outcome.etag}
    assert decoded(everything()["train-2026-W49.ics"][1]).reservation == outcome.reservation
    assert (outcome.reservation.author, outcome.reservation.train, outcome.reservation.sequence) == (
        "ops",
        "1.46.0-wmf.5",
        0,
    )


def test_the_very_same_reservation_again_is_a_success_that_writes_nothing(sync, now, everything):
    first = reserve(sync, REQUEST, now, author="ops")
    before = everything()
    for request in (REQUEST, replace(REQUEST, train=None, ticket=None)):
        again = reserve(sync, request, now + timedelta(minutes=5), author="somebody else")
        assert (again.created, again.reservation, again.etag) == (False, first.reservation, first.etag)
    assert everything() == before


def test_a_dry_run_says_the_same_and_writes_nothing(sync, now, everything):
    dry = reserve(sync, REQUEST, now, dry_run=True)
    assert everything() == {}
    assert (dry.created, dry.etag) == (False, "")
    wet = reserve(sync, REQUEST, now)
    assert (wet.reservation, wet.warnings, wet.skipped) == (dry.reservation, dry.warnings, dry.skipped)
    before = everything()
    change(sync, WEEK, replace(REQUEST, train="2"), now, dry_run=True)
    release(sync, WEEK, now, dry_run=True)
    assert everything() == before


@pytest.mark.parametrize(
    "request_", [replace(REQUEST, pair=OTHERS), replace(REQUEST, train="9"), replace(REQUEST, pair=Pair(US, EU))]
)
def test_a_week_that_is_reserved_is_refused_to_anybody_else(sync, now, everything, request_):
    reserve(sync, REQUEST, now)
    before = everything()
    with pytest.raises(ReservedByAnother, match="2026-W49 is reserved for") as refusal:
        reserve(sync, request_, now)
    assert [(conflict.kind, conflict.blocking) for conflict in refusal.value.conflicts] == [("reserved", True)]
    assert everything() == before


def test_not_even_an_override_takes_a_week_from_another_pair(sync, now):
    reserve(sync, REQUEST, now)
    with pytest.raises(ReservedByAnother, match="conductor-eu and conductor-us"):
        reserve(sync, ReservationRequest(OTHERS, WEEK, override="we want it"), now)


def test_a_reservation_that_nobody_can_read_is_not_overwritten(sync, calendar, now, everything):
    calendar.put("train-2026-W49.ics", b"garbage", etag=None)
    before = everything()
    with pytest.raises(ReservedByAnother, match="cannot be read"):
        reserve(sync, REQUEST, now)
    with pytest.raises(NotReserved):
        release(sync, WEEK, now)
    assert everything() == before


def test_a_conflict_is_refused_with_free_alternatives(sync, calendar, now, everything):
    calendar.put("hotfix.ics", IN_THE_WAY, etag=None)
    before = everything()
    with pytest.raises(Conflicted, match="hotfix") as refusal:
        reserve(sync, REQUEST, now)
    assert not isinstance(refusal.value, ReservedByAnother)
    assert {conflict.slot for conflict in refusal.value.conflicts if conflict.blocking} == {"2026-12-02-european"}
    assert refusal.value.alternatives
    assert everything() == before


def test_an_override_reserves_despite_the_conflict_and_says_why_on_the_calendar(sync, calendar, now):
    calendar.put("hotfix.ics", IN_THE_WAY, etag=None)
    outcome = reserve(sync, replace(REQUEST, override="hotfix comes first"), now)
    assert outcome.created
    assert any(conflict.blocking for conflict in outcome.warnings)
    assert standing(sync, now).override == "hotfix comes first"
    assert b"hotfix comes first" in calendar.changes(None).changed[1].ics.replace(b"\r\n ", b"")


def test_a_released_week_stays_as_cancelled_and_can_be_reserved_again(sync, now, everything):
    reserve(sync, REQUEST, now)
    gone = release(sync, WEEK, now, author="ops")
    assert gone.reservation.released
    assert (gone.reservation.slots, len(gone.reservation.cancelled)) == ((), 6)
    assert standing(sync, now) == gone.reservation
    before = everything()
    assert release(sync, WEEK, now).etag == gone.etag
    assert everything() == before
    with pytest.raises(NotReserved):
        change(sync, WEEK, REQUEST, now)
    anew = reserve(sync, ReservationRequest(OTHERS, WEEK), now)
    assert (anew.created, anew.reservation.pair, len(anew.reservation.slots)) == (True, OTHERS, 6)
    assert anew.reservation.sequence == 2
    assert list(everything()) == ["train-2026-W49.ics"]


def test_a_release_in_the_middle_of_the_week_keeps_what_has_been(sync, now):
    reserve(sync, REQUEST, now)
    gone = release(sync, WEEK, utc(2026, 12, 2, 12)).reservation
    assert [slot.id for slot in gone.slots] == ["2026-12-01-european", "2026-12-01-american", "2026-12-02-european"]
    assert len(gone.cancelled) == 3


def test_a_change_keeps_the_week_and_counts_the_writes(sync, now, everything):
    first = reserve(sync, REQUEST, now)
    changed = change(
        sync, WEEK, replace(REQUEST, train="1.46.0-wmf.6"), now + timedelta(hours=1), etags=(first.etag,), author="ops"
    )
    assert (changed.reservation.train, changed.reservation.sequence, changed.reservation.author) == (
        "1.46.0-wmf.6",
        1,
        "ops",
    )
    assert changed.reservation.slots == first.reservation.slots
    assert changed.etag != first.etag
    before = everything()
    same = change(sync, WEEK, replace(REQUEST, train="1.46.0-wmf.6"), now + timedelta(hours=2), author="another")
    assert (same.etag, everything()) == (changed.etag, before)


def test_slots_that_a_change_gives_up_are_cancelled_for_subscribers(sync, now):
    reserve(sync, REQUEST, now)
    changed = change(sync, WEEK, ReservationRequest(Pair(EU, person("l", "Africa/Lagos")), WEEK), now).reservation
    assert {slot.window for slot in changed.slots} == {"european"}
    assert {slot.window for slot in changed.cancelled} == {"american"}
    back = change(sync, WEEK, REQUEST, now).reservation
    assert (len(back.slots), back.cancelled) == (6, ())


def test_a_change_in_the_middle_of_the_week_leaves_what_has_been(sync, now):
    reserve(sync, REQUEST, now)
    late = utc(2026, 12, 2, 12)
    changed = change(sync, WEEK, replace(REQUEST, pair=Pair(EU, person("l", "Africa/Lagos"))), late).reservation
    assert [slot.id for slot in changed.slots] == [
        "2026-12-01-european", "2026-12-01-american", "2026-12-02-european", "2026-12-03-european",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "write",
    [
        lambda f, etag, now: change(f, WEEK, replace(REQUEST, train="2"), now, etags=(etag,)),
        lambda f, etag, now: release(f, WEEK, now, etags=(etag,)),
    ],
)
def test_who_read_an_older_state_is_told_so_and_changes_nothing(sync, now, everything, write):
    old = reserve(sync, REQUEST, now).etag
    change(sync, WEEK, replace(REQUEST, ticket="T2"), now)
    before = everything()
    with pytest.raises(Changed, match="read it again"):
        write(sync, old, now)
    assert everything() == before


def test_what_is_not_reserved_can_neither_be_changed_nor_released(sync, now, everything):
    with pytest.raises(NotReserved, match="2026-W49 is not reserved"):
        change(sync, WEEK, REQUEST, now)
    with pytest.raises(NotReserved):
        release(sync, WEEK, now)
    assert everything() == {}


@pytest.mark.parametrize(
    "request_",
    [
        ReservationRequest(PAIR, Week(2026, 52)),
        ReservationRequest(PAIR, Week(2026, 40)),
        ReservationRequest(PAIR, Week(2030, 10)),
        ReservationRequest(Pair(EU, replace(US, name=EU.name)), WEEK),
        ReservationRequest(Pair(EU, replace(US, window="backport-night")), WEEK),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(sync, calendar, now, request_):
    before = calendar.changes(None)
    for dry_run in (True, False):
        with pytest.raises(Invalid):
            reserve(sync, request_, now, dry_run=dry_run)
    assert calendar.changes(None) == before


def test_a_week_that_has_begun_is_reserved_for_what_is_left_of_it(sync):
    outcome = reserve(sync, REQUEST, utc(2026, 12, 2, 12))
    assert len(outcome.skipped) == len(outcome.reservation.slots) == 3


def test_without_a_week_the_next_train_is_reserved(sync, now):
    assert reserve(sync, replace(REQUEST, week=None), now).reservation.week == WEEK


def test_a_reservation_is_taken_back_if_somebodys_event_came_in_between(calendar, config, now, everything):
    meddled = Meddled(calendar, lambda: calendar.put("hotfix.ics", IN_THE_WAY, etag=None))
    sync = CalendarSync(meddled, config, now)
    with pytest.raises(Conflicted, match=r"taken back.*hotfix"):
        reserve(sync, REQUEST, now)
    assert list(everything()) == ["hotfix.ics"]
    assert sync.agenda.reservation(WEEK) is None


def test_a_change_that_somebodys_event_came_between_leaves_the_reservation_before_it(calendar, config, now, everything):
    reserve(CalendarSync(calendar, config, now), ReservationRequest(Pair(US, person("d", "America/Denver")), WEEK), now)
    before = decoded(everything()["train-2026-W49.ics"][1]).reservation
    sync = CalendarSync(Meddled(calendar, lambda: calendar.put("hotfix.ics", IN_THE_WAY, etag=None)), config, now)
    with pytest.raises(Conflicted, match="taken back"):
        change(sync, WEEK, REQUEST, now)
    after = decoded(everything()["train-2026-W49.ics"][1]).reservation
    assert after == replace(before, sequence=after.sequence)
    assert after.sequence > before.sequence + 1  # subscribers may have seen what was taken back


def test_an_override_is_not_taken_back(calendar, config, now, everything):
    sync = CalendarSync(Meddled(calendar, lambda: calendar.put("hotfix.ics", IN_THE_WAY, etag=None)), config, now)
    assert reserve(sync, replace(REQUEST, override="yes"), now).created
    assert len(everything()) == 2


def test_whoever_is_second_by_a_moment_learns_whose_week_it_is(calendar, config, now):
    theirs = CalendarSync(calendar, config, now)
    sync = CalendarSync(
        Meddled(calendar, lambda: reserve(theirs, ReservationRequest(OTHERS, WEEK), now), before=True), config, now
    )
    with pytest.raises(ReservedByAnother, match="p and q"):
        reserve(sync, REQUEST, now)
    assert standing(theirs, now).pair == OTHERS


def test_the_same_reservation_by_another_hand_at_the_same_moment_is_a_success(calendar, config, now, everything):
    theirs = CalendarSync(calendar, config, now)
    sync = CalendarSync(Meddled(calendar, lambda: reserve(theirs, REQUEST, now), before=True), config, now)
    outcome = reserve(sync, REQUEST, now)
    assert not outcome.created
    assert outcome.etag == everything()["train-2026-W49.ics"][0]


def test_a_calendar_that_is_away_is_said_and_nothing_is_promised(sync, now):
    class Away:
        def changes(self, *_arguments):
            raise Unreachable("away")

    sync.calendar = Away()
    with pytest.raises(Unreachable):
        reserve(sync, REQUEST, now)


@pytest.mark.heavy
@pytest.mark.parametrize("own_process", [False, True])
def test_of_twenty_pairs_at_once_exactly_one_gets_the_week(calendar, config, sync, tmp_path, now, own_process):
    calendars = [SqlCalendar.sqlite(tmp_path / "deployments.db") if own_process else calendar for _ in range(20)]
    followers = [CalendarSync(one, config, now) if own_process else sync for one in calendars]
    ready = threading.Barrier(20)

    def attempt(n):
        ready.wait()
        try:
            return reserve(followers[n], ReservationRequest(Pair(person(f"p{n}", "Europe/Paris"), US), WEEK), now)
        except ReservedByAnother:
            return None

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(attempt, range(20)))
    (winner,) = [outcome for outcome in outcomes if outcome]
    assert winner.created
    (resource,) = calendar.changes(None).changed
    assert decoded(resource.ics).reservation == winner.reservation
    for one in calendars:
        one.close()


def test_conflicts_that_people_create_later_are_found_by_the_same_check(sync, calendar, now):
    reserve(sync, REQUEST, now)
    calendar.put("hotfix.ics", IN_THE_WAY, etag=None)
    found = check_request(sync.refresh(now), REQUEST, now)
    assert [conflict.event.summary for conflict in found.conflicts if conflict.blocking] == ["hotfix"]
    assert reserve(sync, REQUEST, now).warnings == found.conflicts


def test_what_people_moved_on_the_calendar_is_said_with_the_reservation(sync, calendar, now):
    first = reserve(sync, REQUEST, now)
    (resource,) = calendar.changes(None).changed
    moved = resource.ics.replace(b"DTSTART;TZID=Europe/Paris:20261202T100000", b"DTSTART;TZID=Europe/Paris:20261202T093000")
    calendar.put(resource.href, moved, etag=first.etag)
    again = reserve(sync, REQUEST, now)
    assert again.changes == ("2026-12-02-european was moved to Wed 02 Dec 09:30–12:00 Europe/Paris.",)
    assert again.reservation.slots[2].start == datetime(2026, 12, 2, 8, 30, tzinfo=UTC)


# What people do to a reservation, and what a change makes of it


def edited(calendar, old, new):
    """A person changes the text of the week's resource in their client."""
    resource = next(found for found in calendar.changes(None).changed if found.href == "train-2026-W49.ics")
    assert old in resource.ics
    calendar.put(resource.href, resource.ics.replace(old, new), etag=resource.etag)


MOVED = (b"DTSTART;TZID=America/Los_Angeles:20261203T110000", b"DTSTART;TZID=America/Los_Angeles:20261203T103000")


def test_a_slot_that_people_moved_stays_there_when_the_ticket_changes(sync, calendar, now):
    reserve(sync, REQUEST, now)
    edited(calendar, *MOVED)
    reservation = change(sync, WEEK, replace(REQUEST, ticket="T2"), now).reservation
    moved = next(slot for slot in reservation.slots if slot.id == "2026-12-03-american")
    assert f"{moved.start:%H:%M}" == "10:30"


def test_a_slot_moved_to_an_earlier_day_is_there_once_after_a_change(sync, calendar, now):
    reserve(sync, REQUEST, now)
    edited(
        calendar,
        b"DTSTART;TZID=Europe/Paris:20261203T100000\r\nDTEND;TZID=Europe/Paris:20261203T120000",
        b"DTSTART;TZID=Europe/Paris:20261201T140000\r\nDTEND;TZID=Europe/Paris:20261201T150000",
    )
    ids = [slot.id for slot in change(sync, WEEK, replace(REQUEST, ticket="T2"), now + timedelta(days=8)).reservation.slots]
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) == 6


def test_who_conducted_a_slot_that_is_over_stays_on_it(sync, now):
    reserve(sync, REQUEST, now)
    others = Pair(person("cyd", "Europe/Paris"), REQUEST.pair.backup)
    reservation = change(sync, WEEK, replace(REQUEST, pair=others), now + timedelta(days=8)).reservation
    first, *_, last = [slot for slot in reservation.slots if slot.window == "european"]
    assert reservation.names(first) == (REQUEST.pair.primary.name,)
    assert reservation.names(last) == ("cyd",)


def test_a_week_whose_every_slot_people_cancelled_can_be_released(sync, calendar, now):
    reserve(sync, REQUEST, now)
    edited(calendar, b"STATUS:CONFIRMED", b"STATUS:CANCELLED")
    assert not sync.refresh(now).reservation(WEEK).reservation.slots
    released = release(sync, WEEK, now).reservation
    assert released.released
    assert len(released.cancelled) == 6


def test_an_event_over_a_slot_that_has_been_does_not_undo_a_change(sync, calendar, now):
    reserve(sync, REQUEST, now)
    calendar.put("tuesday.ics", ics("DTSTART:20261201T093000Z", "DTEND:20261201T100000Z", uid="tuesday"), etag=None)
    assert change(sync, WEEK, replace(REQUEST, ticket="T2"), now + timedelta(days=8)).reservation.ticket == "T2"


@pytest.mark.parametrize(
    "record", [{}, [], {"version": 1}, {"week": "2026-W49", "primary": {"name": 5}}, {"modified": "00010101T000000Z"}]
)
def test_a_record_that_somebody_else_wrote_holds_the_week_and_stops_nothing(sync, calendar, now, record):
    token = base64.urlsafe_b64encode(json.dumps(record).encode()).decode()
    lines = ("DTSTART:20261201T090000Z", "DTEND:20261201T110000Z", f"X-CALSYNC-RECORD:{token}")
    calendar.put("train-2026-W49.ics", ics(*lines, uid="train-2026-W49"), etag=None)
    calendar.put("train-2026-W50.ics", b"BEGIN:VEVENT\r\nEND:VEVENT\r\n", etag=None)
    agenda = sync.refresh(now)
    assert set(agenda.defects) == {"train-2026-W49.ics", "train-2026-W50.ics"}
    with pytest.raises(ReservedByAnother):
        reserve(sync, REQUEST, now)


def test_a_slot_that_people_moved_into_a_conflict_is_named_before_anything_is_written(sync, calendar, now):
    reserve(sync, REQUEST, now)
    edited(calendar, *MOVED)
    calendar.put("in-the-way.ics", ics("DTSTART:20261203T183000Z", "DTEND:20261203T184500Z", uid="w"), etag=None)
    before = calendar.changes(None)
    with pytest.raises(Conflicted, match="blocks 2026-W49"):
        change(sync, WEEK, replace(REQUEST, pair=replace(PAIR, backup=replace(PAIR.backup, name="eve"))), now)
    assert calendar.changes(None) == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_train_that_is_over_cannot_be_released_and_says_so(sync, calendar, now, dry_run):
    reserve(sync, REQUEST, now)
    before = calendar.changes(None)
    with pytest.raises(Invalid, match="The train of 2026-W49 is over; there is nothing to release"):
        release(sync, WEEK, now + timedelta(weeks=3), dry_run=dry_run)
    assert calendar.changes(None) == before


def test_a_ticket_that_stands_is_not_questioned_by_a_change_of_something_else(calendar, config, now):
    reserve(CalendarSync(calendar, config, now), replace(REQUEST, ticket="blocker"), now)
    with_tickets = CalendarSync(calendar, configured(tickets={"url": "https://phabricator.example.org"}), now)
    same = reserve(with_tickets, replace(REQUEST, ticket="blocker"), now)
    assert not same.created
    found = change(with_tickets, WEEK, replace(REQUEST, ticket="blocker", train="2"), now)
    assert (found.reservation.train, found.reservation.ticket) == ("2", "blocker")
    with pytest.raises(Invalid, match='"another" is not a task'):
        change(with_tickets, WEEK, replace(REQUEST, ticket="another"), now)


def test_a_new_ticket_moves_nothing_so_that_conflicts_warn_and_do_not_refuse_it(sync, calendar, now):
    reserve(sync, REQUEST, now)
    calendar.put("in-the-way.ics", ics("DTSTART:20261201T093000Z", "DTEND:20261201T094500Z", uid="w"), etag=None)
    found = change(sync, WEEK, replace(REQUEST, ticket="T2"), now)
    assert (found.reservation.ticket, [one.kind for one in found.warnings]) == ("T2", ["overlap"])
    assert sync.refresh(now).reservation(WEEK).reservation.ticket == "T2"


def test_slots_that_people_took_off_the_calendar_do_not_come_back_with_a_ticket(sync, calendar, now):
    reserve(sync, REQUEST, now)
    edited(calendar, b"STATUS:CONFIRMED", b"STATUS:CANCELLED")
    with pytest.raises(Invalid, match="release the week"):
        change(sync, WEEK, replace(REQUEST, ticket="T2"), now)
