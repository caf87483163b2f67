"""Who is away, what that does to slots (also to those reserved before), and who could cover."""

from datetime import date

import pytest

from calsync.booking import absences, reservations
from calsync.core.conductors import Pair
from calsync.core.conflict import Conflicted
from calsync.core.weeks import Week
from calsync.schedule.check import ReservationRequest
from calsync.schedule.conflicts import conflicts_of_reservations
from calsync.schedule.sync import CalendarSync
from support.pair import ANA, BEN, CEM, TEAM, W49, busy_slots, december
from support.samples import configured, ics

# The European slots are 09:00–11:00 in UTC, watched until 13:00; the American ones 19:00–21:00, watched until 23:00.


def test_an_absence_speaks_against_slots_that_were_reserved_before_it(known, now):
    assert busy_slots(known, now) == []
    found = absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 2), now, note="conference")
    assert busy_slots(known, now) == [("2026-12-01-european", ["ben"]), ("2026-12-02-european", ["ben"])]
    assert [conflict.slot for conflict in found.conflicts] == ["2026-12-01-european", "2026-12-02-european"]
    assert found.conflicts[0].blocking
    assert "Tue 1 Dec 00:00–Thu 3 Dec 00:00 Europe/Paris: conference" in found.conflicts[0].message


@pytest.mark.parametrize(
    ("start", "end", "hit"),
    [
        (december(1, 7), december(1, 9), False),
        (december(1, 7), december(1, 9, 1), True),
        (december(1, 10), december(1, 10, 5), True),
        (december(1, 12, 59), december(1, 15), True),
        (december(1, 13), december(1, 15), False),
    ],
)
def test_being_away_counts_during_a_slot_and_two_hours_behind_it(known, now, start, end, hit):
    absences.add_absence(known, "ana", start, end, now)
    assert [slot for slot, _ in busy_slots(known, now)] == (["2026-12-01-european"] if hit else [])


def test_how_long_behind_a_slot_somebody_watches_is_a_setting(calendar, now):
    sync = CalendarSync(calendar, configured(conductors=TEAM, conflicts={"watch_after": "0m"}), now)
    reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), W49), now)
    absences.add_absence(sync, "ana", december(1, 11), december(1, 18), now)
    assert busy_slots(sync, now) == []


def test_where_the_partner_is_away_too_those_cover_whose_hours_fit(known, now):
    absences.add_absence(known, "ana", date(2026, 12, 1), date(2026, 12, 1), now)
    absences.add_absence(known, "ben", december(1, 0), december(1, 12), now)
    assert busy_slots(known, now) == [("2026-12-01-european", ["cem"])]
    ((_, found),) = conflicts_of_reservations(known.agenda, now)
    assert "10:00–12:00 lies in 09:00-18:00 Europe/Berlin" in found[0].cover[0].reason
    absences.add_absence(known, "cem", date(2026, 12, 1), date(2026, 12, 1), now)
    assert busy_slots(known, now) == [("2026-12-01-european", [])]
    assert "nobody can cover" in next(conflicts_of_reservations(known.agenda, now))[1][0].message


def test_a_week_is_not_reserved_for_somebody_who_is_away_and_the_partner_covers(known, now):
    absences.add_absence(known, "cem", date(2026, 12, 8), date(2026, 12, 8), now)
    with pytest.raises(Conflicted, match="cem is away") as error:
        reservations.reserve(known, ReservationRequest(Pair(CEM, BEN), Week(2026, 50)), now)
    (conflict,) = [conflict for conflict in error.value.conflicts if conflict.kind == "busy"]
    assert conflict.cover[0].name == "ben"
    assert "02:00–04:00 is outside 09:00-18:00 America/Denver" in conflict.cover[0].reason


def test_an_absence_keeps_nobody_else_from_deploying(known, now):
    absences.add_absence(known, "cem", date(2026, 12, 1), date(2026, 12, 1), now)
    assert [found for _, found in conflicts_of_reservations(known.agenda, now)] == [()]


def test_a_resource_that_only_looks_like_an_absence_is_an_event_like_others(known, calendar, now):
    calendar.put("away-x.ics", ics("SUMMARY:away", "DTSTART:20261201T090000Z", "DTEND:20261201T100000Z"), etag=None)
    assert known.refresh(now).absences == {}
    assert [conflict.kind for conflict in next(conflicts_of_reservations(known.agenda, now))[1]] == ["overlap"]
