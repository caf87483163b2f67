"""Reserving the rotation's weeks: each by itself, in turn, whatever fails."""

from datetime import UTC, datetime

import pytest

from calsync.booking import reservations
from calsync.booking.rotation import reserve_weeks
from calsync.calendars.base import Changes
from calsync.core.conductors import Pair
from calsync.core.errors import Changed, Refused, Unreachable
from calsync.ical.reservation import reservation_href
from calsync.schedule import rotation
from calsync.schedule.check import ReservationRequest
from calsync.schedule.diary import Busy
from calsync.schedule.sync import CalendarSync
from support.failing import Wrapper
from support.pair import ANA, CEM, ROTATION, TEAM, W49, W50, be_away, turns
from support.samples import configured, ics
from support.site import MAINTENANCE


def test_whoever_is_away_in_a_week_that_is_reserved_is_named_with_what_to_do(rotating, now):
    list(reserve_weeks(rotating, 2, now))
    assert [turn.notes for turn in rotation.rotation(rotating.agenda, now, 2).turns] == [(), ()]
    be_away(rotating, "ben", datetime(2026, 12, 9).date(), datetime(2026, 12, 10).date(), "America/Denver", "dentist")
    rotating.refresh(now)
    first, second = rotation.rotation(rotating.agenda, now, 2).turns
    assert (first.notes, second.state) == ((), "reserved")
    (note,) = second.notes
    assert note.startswith("ben is away Wed 9 Dec 00:00–Fri 11 Dec 00:00 (dentist)")
    (_, told) = reserve_weeks(rotating, 2, now)
    assert (told.result, told.message) == ("stands", f"2026-W50 is reserved already, for ben and ana. {note}")
    # Ana is away for a night in which nobody has a slot; of what is over nobody has to hear.
    be_away(rotating, "ana", datetime(2026, 12, 9, 0, tzinfo=UTC), datetime(2026, 12, 9, 3, tzinfo=UTC))
    rotating.refresh(now)
    assert len(rotation.rotation(rotating.agenda, now, 2).turns[1].notes) == 1
    later = datetime(2026, 12, 10, 21, tzinfo=UTC)
    rotating.refresh(later)
    assert rotation.rotation(rotating.agenda, later, 1).turns[0].notes == ()


def test_each_free_week_is_reserved_for_itself_and_the_same_call_again_changes_nothing(rotating, now):
    first = list(reserve_weeks(rotating, 6, now, author="cron"))
    assert [one.result for one in first] == ["reserved", "reserved", "reserved", "no-train", "no-train", "reserved"]
    assert [(one.turn.primary, one.turn.backup) for one in first if one.result == "reserved"] == [
        ("ana", "cem"),
        ("ben", "ana"),
        ("cem", "ben"),
        ("ana", "cem"),
    ]
    token = rotating.refresh(now).token
    again = list(reserve_weeks(rotating, 6, now))
    assert [one.result for one in again] == ["stands", "stands", "stands", "no-train", "no-train", "stands"]
    assert rotating.refresh(now).token == token


def test_a_week_that_cannot_be_reserved_keeps_no_other_from_it(rotating, now):
    rotating.calendar.put("x.ics", ics(*MAINTENANCE).replace(b"20261201", b"20261208"), etag=None)
    found = list(reserve_weeks(rotating, 3, now))
    assert [one.result for one in found] == ["reserved", "conflict", "reserved"]
    assert "Database maintenance" in found[1].message
    assert [entry.reservation.week for entry in rotating.refresh(now).reservations] == [W49, W49.shift(2)]


class Spoilt(Wrapper):
    """A calendar that answers with `error` to every write of the week; `late`: once it is done."""

    def __init__(self, calendar, error, week, late=False, times=99):
        super().__init__(calendar)
        self.error, self.href, self.late, self.times = error, reservation_href(week), late, times

    def put(self, href, text, *, etag):
        if href != self.href or not self.times:
            return self.calendar.put(href, text, etag=etag)
        self.times -= 1
        if self.late:
            self.calendar.put(href, text, etag=etag)
        raise self.error("The server does not take it.")


@pytest.mark.parametrize("error", [Refused, Changed])
def test_a_week_that_the_calendar_refuses_keeps_no_other_from_being_reserved(rotating, calendar, now, error):
    sync = CalendarSync(Spoilt(calendar, error, W50), rotating.config, now)
    found = list(reserve_weeks(sync, 3, now))
    assert [one.result for one in found] == ["reserved", "refused", "reserved"]
    assert found[1].message == "2026-W50 is not reserved: The server does not take it."
    # The rotation goes on as planned.
    assert [one.turn.primary for one in found] == ["ana", "ben", "cem"]


class Slow(Spoilt):
    """A calendar that shows a write whose answer is lost only after it was looked for, as some CalDAV servers do."""

    hidden = 0

    def put(self, href, text, *, etag):
        try:
            return super().put(href, text, etag=etag)
        except Unreachable:
            self.hidden = 1
            raise

    def changes(self, since, *arguments):
        if self.hidden:
            self.hidden -= 1
            return Changes(since, (), (), complete=False)
        return self.calendar.changes(since, *arguments)


def test_a_week_whose_answer_was_lost_is_reserved_by_the_call_that_wrote_it(rotating, calendar, now):
    slow = Slow(calendar, Unreachable, W49, late=True, times=1)
    found = list(reserve_weeks(CalendarSync(slow, rotating.config, now), 2, now))
    assert [one.result for one in found] == ["reserved", "reserved"]
    again = list(reserve_weeks(CalendarSync(calendar, rotating.config, now), 2, now))
    assert [one.result for one in again] == ["stands", "stands"]


def test_what_came_in_between_takes_a_write_back_whose_answer_was_lost(calendar, now):
    class Contested(Slow):
        def put(self, href, text, *, etag):
            try:
                return super().put(href, text, etag=etag)
            except Unreachable:
                self.calendar.put("x.ics", ics(*MAINTENANCE), etag=None)
                raise

    contested = Contested(calendar, Unreachable, W49, late=True, times=1)
    sync = CalendarSync(contested, configured(conductors=TEAM, rotation=ROTATION | {"order": ["ben", "ana"]}), now)
    (found,) = reserve_weeks(sync, 1, now)
    assert found.result == "conflict"
    assert "was taken back" in found.message
    assert sync.refresh(now).reservation(W49) is None


def test_a_week_of_which_people_cancelled_the_train_takes_no_turn_and_is_told_of(rotating, now):
    list(reserve_weeks(rotating, 3, now))
    entry = rotating.refresh(now).reservation(W50)
    rotating.calendar.put(entry.href, entry.ics.replace(b"STATUS:CONFIRMED", b"STATUS:CANCELLED"), etag=entry.etag)
    rotating.refresh(now)
    found = rotation.rotation(rotating.agenda, now, 3)
    assert [(turn.state, turn.primary) for turn in found.turns] == [
        ("reserved", "ana"),
        ("no-train", None),
        ("reserved", "cem"),
    ]
    assert found.turns[1].notes == ("No train: people cancelled it on the calendar.",)
    told = list(reserve_weeks(rotating, 3, now))
    assert [one.result for one in told] == ["stands", "no-train", "stands"]
    assert told[1].message.startswith("2026-W50 has no train: people cancelled it on the calendar; release the week")
    reservations.release(rotating, W50, now)
    assert [one.result for one in reserve_weeks(rotating, 3, now)] == ["stands", "reserved", "stands"]


def test_weeks_beyond_the_horizon_are_told_of_and_not_reserved(calendar, now):
    near = configured(conductors=TEAM, rotation=ROTATION, calendar={"horizon": {"past": "90d", "future": "12d"}})
    found = list(reserve_weeks(CalendarSync(calendar, near, now), 3, now))
    assert [one.result for one in found] == ["reserved", "beyond", "beyond"]
    assert "horizon" in found[1].message


def test_what_somebody_else_reserves_meanwhile_is_followed(rotating, now):
    weeks = reserve_weeks(rotating, 3, now)
    assert next(weeks).turn.primary == "ana"
    pair = Pair(CEM, ANA)
    reservations.reserve(CalendarSync(rotating.calendar, rotating.config, now), ReservationRequest(pair, W50), now)
    assert [(one.turn.primary, one.result) for one in weeks] == [("cem", "stands"), ("ben", "reserved")]


def test_somebody_whose_feed_cannot_be_read_is_planned_and_their_weeks_are_not_reserved(rotating, now):
    rotating.busy = {"ben": Busy(unknown="their busy feed cannot be read (it answers 500)")}
    assert turns(rotating, now, 2) == [("ana", "cem"), ("ben", "ana")]
    found = list(reserve_weeks(rotating, 2, now))
    assert [one.result for one in found] == ["reserved", "conflict"]
    assert "Cannot tell whether ben is away" in found[1].message
