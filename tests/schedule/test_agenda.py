from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calsync.calendars.base import Changes, Resource
from calsync.core.errors import Unreachable
from calsync.schedule.agenda import blank, horizon_around
from calsync.schedule.sync import CalendarSync
from support.samples import configured, event, ics, utc

NOW = utc(2026, 11, 24, 12)
CONFIG = configured(calendar={"horizon": {"past": "30d", "future": "60d"}})
BODIES = [
    ics("DTSTART:20261201T100000Z", "DTEND:20261201T120000Z"),
    ics("DTSTART:20261130T230000Z", "DURATION:PT30H", "RRULE:FREQ=WEEKLY", uid="w"),
    ics("DTSTART;VALUE=DATE:20261201", "DTEND;VALUE=DATE:20261205"),
    ics("DTSTART:20261201T100000", before=event("DTSTART:20270115T100000Z", uid="two")),
    ics("DTSTART:20261201T100000Z", "DTEND:20261201T090000Z"),
    ics("DTSTART:20261201T100000Z", "RRULE:FREQ=SECONDLY"),
    ics("DTSTART:20301201T100000Z"),
    b"garbage",
]
hrefs = st.sampled_from(["a.ics", "b.ics", "c.ics", "train-2026-W49.ics", "train-2026-W49.ics~"])
steps = st.lists(
    st.tuples(st.booleans(), st.dictionaries(hrefs, st.none() | st.sampled_from(BODIES), max_size=4)),
    min_size=1,
    max_size=6,
)


def content(agenda):
    quarters = {quarter: Counter(found) for quarter, found in agenda.quarters.items() if found}
    managed = {href: entry for href, entry in agenda.objects.items() if entry.is_managed}
    assert agenda.managed == managed
    return quarters, dict(agenda.objects), agenda.horizon


@settings(max_examples=60)
@given(steps)
def test_following_changes_one_by_one_ends_where_reading_everything_does(rounds):
    agenda = blank(CONFIG, NOW)
    standing = {}
    for n, (complete, writes) in enumerate(rounds):
        fresh = {href: Resource(href, str(n), body) for href, body in writes.items() if body is not None}
        gone = tuple(href for href, body in writes.items() if body is None)
        standing = fresh if complete else {h: r for h, r in {**standing, **fresh}.items() if h not in gone}
        agenda = agenda.after(
            Changes(str(n), tuple(fresh.values()), () if complete else gone, complete), NOW + timedelta(minutes=n)
        )
    anew = blank(CONFIG, NOW).after(Changes("x", tuple(standing.values()), (), complete=True), NOW)
    assert content(agenda) == content(anew)
    assert agenda.defects == anew.defects


def test_taking_in_changes_leaves_the_agenda_before_as_it_was():
    before = blank(CONFIG, NOW).after(Changes("1", (Resource("a.ics", "1", BODIES[0]),), (), complete=True), NOW)
    kept = content(before)
    before.after(Changes("2", (), ("a.ics",), complete=False), NOW)
    assert content(before) == kept
    assert list(before.overlapping(utc(2026, 12, 1), utc(2026, 12, 2), "UTC"))


@given(st.integers(-30 * 24, 60 * 24), st.integers(1, 100))
def test_a_question_about_a_span_finds_what_overlaps_it_once_each(hours, length):
    agenda = blank(CONFIG, NOW).after(
        Changes("1", tuple(Resource(f"{n}.ics", "1", body) for n, body in enumerate(BODIES)), (), complete=True), NOW
    )
    start = utc(2026, 11, 24) + timedelta(hours=hours)
    end = min(start + timedelta(hours=length), agenda.horizon.end)
    everything = [found for entry in agenda.objects.values() for found in entry.reading.occurrences]
    for observer in ("UTC", "Pacific/Kiritimati", "Etc/GMT+12"):
        expected = Counter(
            found
            for found in everything
            for s, e in [found.span(observer)]
            if s < end and start < e and s < e and start < end
        )
        assert Counter(found for found, _, _ in agenda.overlapping(start, end, observer)) == expected


def test_the_last_change_moves_only_when_something_changed_and_then_by_a_second_at_least():
    first = blank(CONFIG, NOW).after(Changes("1", (Resource("a.ics", "1", BODIES[0]),), (), complete=True), NOW)
    second = first.after(Changes("2", (), (), complete=False), NOW + timedelta(minutes=5))
    third = second.after(Changes("3", (), ("a.ics",), complete=False), NOW)
    assert second.changed == first.changed
    assert second.synced == NOW + timedelta(minutes=5)
    assert third.changed >= first.changed + timedelta(seconds=1)


def test_on_a_new_day_the_horizon_moves_and_the_calendar_is_read_anew(calendar):
    sync = CalendarSync(calendar, CONFIG, NOW)
    calendar.put("a.ics", BODIES[1], etag=None)
    first = sync.refresh(NOW)
    same = sync.refresh(NOW + timedelta(hours=11))
    assert same.horizon == first.horizon == horizon_around(CONFIG, NOW)
    later = sync.refresh(NOW + timedelta(hours=12))
    assert later.horizon.end == first.horizon.end + timedelta(days=1)
    assert later.changed > first.changed
    assert content(later) == content(CalendarSync(calendar, CONFIG, NOW).refresh(NOW + timedelta(hours=12)))
    assert later.covers(utc(2026, 12, 1), utc(2026, 12, 2))
    assert not later.covers(utc(2026, 12, 1), utc(2027, 12, 2))


def test_a_calendar_that_does_not_answer_leaves_readers_the_agenda_they_had(calendar):
    sync = CalendarSync(calendar, CONFIG, NOW)
    calendar.put("a.ics", BODIES[0], etag=None)
    before = sync.refresh(NOW)

    class Away:
        def changes(self, *_arguments):
            raise Unreachable("away")

    sync.calendar = Away()  # type: ignore[assignment]
    for later in (timedelta(seconds=1), timedelta(days=2)):
        with pytest.raises(Unreachable):
            sync.refresh(NOW + later)
    assert sync.agenda.objects == before.objects


def test_the_shipped_recurring_windows_and_freezes_are_on_the_agenda(config):
    agenda = blank(config, NOW)
    kinds = {found.kind for found, _, _ in agenda.overlapping(utc(2026, 11, 30), utc(2026, 12, 7), "UTC")}
    assert kinds == {"recurring", "freeze"}
    (weekend,) = {found for found, _, _ in agenda.overlapping(utc(2026, 12, 5), utc(2026, 12, 6), "UTC")}
    assert (weekend.start, weekend.end) == (utc(2026, 12, 4, 8), utc(2026, 12, 7, 8))
