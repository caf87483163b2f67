"""Every fast path gives what the plain computation gives, on random calendars with random changes."""

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, timedelta
from itertools import count

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import vRecur
from starlette.testclient import TestClient

from calsync.booking import absences
from calsync.booking.reservations import release, reserve
from calsync.calendars.sql import SqlCalendar
from calsync.core.conductors import Pair
from calsync.core.conflict import ReservedByAnother
from calsync.core.errors import Invalid, NotReserved
from calsync.core.planning import plan
from calsync.core.weeks import Week
from calsync.ical import recurrence
from calsync.ical.occurrences import Occurrence
from calsync.ical.recurrence import TimeRange, last_start
from calsync.ical.reservation import encode_reservation
from calsync.schedule.check import ReservationRequest
from calsync.schedule.conflicts import _by_itself, check
from calsync.schedule.diary import Busy, Diary
from calsync.schedule.feed import Filters, render
from calsync.schedule.sync import CalendarSync
from calsync.web.app import create_app
from calsync.web.cache import AnswerCache
from support.samples import PAIR, US, configured, ics, own_zone, person, read, utc
from support.strategies import foreign, some

CONFIG = configured()
NOW = utc(2026, 11, 24, 12)
WEEKS = [Week(2026, 49).shift(n) for n in range(3)]
FILTERS = [
    Filters(),
    Filters(alarm=timedelta(minutes=15)),
    Filters(windows=("american",)),
    Filters(conductor="conductor-eu"),
    Filters(only_reservations=True),
]
hrefs = st.sampled_from([f"{n}.ics" for n in range(6)])
bodies = foreign().map(lambda found: ics(*found[0], before=found[1].replace("{uid}", "event@example.org")))
changes = st.one_of(
    st.tuples(st.just("put"), hrefs, bodies),
    st.tuples(st.just("delete"), hrefs),
    st.tuples(st.just("reserve"), st.sampled_from(WEEKS), st.sampled_from([PAIR, Pair(US, person("d", "America/Denver"))])),
    st.tuples(st.just("release"), st.sampled_from(WEEKS)),
    st.tuples(st.just("away"), st.sampled_from(["conductor-eu", "conductor-us"]), st.integers(0, 20), st.integers(0, 2)),
    st.tuples(st.just("busy"), st.sampled_from(["conductor-eu", "conductor-us"]), st.integers(0, 20 * 24)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
)


class Town:
    """A calendar to which random things are done."""

    def __init__(self, file):
        self.calendar = SqlCalendar.sqlite(file)
        self.sync = CalendarSync(self.calendar, CONFIG, NOW)
        self.now = NOW
        self.sync.refresh(NOW)

    def apply(self, change):
        kind, *what = change
        if kind == "wait":
            self.now += timedelta(hours=what[0])
        elif kind == "reserve":
            with contextlib.suppress(ReservedByAnother, Invalid):
                reserve(self.sync, ReservationRequest(what[1], what[0], override="yes"), self.now)
        elif kind == "away":
            start = self.now.date() + timedelta(days=what[1])
            with contextlib.suppress(Invalid):  # nobody knows them before a week is reserved for them
                absences.add_absence(self.sync, what[0], start, start + timedelta(days=what[2]), self.now)
        elif kind == "busy":
            start = self.now + timedelta(hours=what[1])
            elsewhere = Occurrence(start, start + timedelta(hours=3), "busy@example.org", "elsewhere")
            self.sync.busy = {**self.sync.busy, what[0]: Busy((elsewhere,))}
        elif kind == "release":
            with contextlib.suppress(NotReserved):
                release(self.sync, what[0], self.now)
        else:
            standing = {found.href: found for found in self.calendar.changes(None).changed}.get(what[0])
            if kind == "put":
                self.calendar.put(what[0], what[1], etag=standing.etag if standing else None)
            elif standing:
                self.calendar.delete(what[0], etag=standing.etag)
        return self.sync.refresh(self.now)

    def anew(self):
        """The agenda of somebody who has only just looked."""
        sync = CalendarSync(self.calendar, CONFIG, self.now)
        sync.busy = self.sync.busy
        return sync.refresh(self.now)


@settings(max_examples=15)
@given(st.lists(changes, min_size=1, max_size=4), st.sampled_from(FILTERS))
def test_a_feed_of_an_agenda_that_took_in_changes_is_that_of_one_read_anew(tmp_path_factory, story, filters):
    town = Town(tmp_path_factory.mktemp("town") / "deployments.db")
    for change in story:
        followed, fresh = render(town.apply(change), town.now, filters), render(town.anew(), town.now, filters)
        assert (followed.body, followed.etag, followed.expires) == (fresh.body, fresh.etag, fresh.expires)
    town.calendar.close()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["Own", "Other"]), st.none() | st.integers(-11, 12)), min_size=1, max_size=8))
def test_a_timezone_that_was_met_before_means_in_each_resource_what_that_says(resources):
    horizon = TimeRange(NOW, NOW + timedelta(days=30))
    for tzid, hours in resources:
        before = own_zone(f"{hours:+03}00", tzid) if hours is not None else ""
        clock = [f"{name};TZID={tzid}:20261201T{hour}0000" for name, hour in (("DTSTART", 10), ("DTEND", 12))]
        (found,) = read(ics(*clock, before=before), "e.ics", horizon).occurrences
        assert found.certain == (hours is not None)
        if hours is not None:
            assert found.start == utc(2026, 12, 1, 10) - timedelta(hours=hours)
            assert found.end - found.start == timedelta(hours=2)


@settings(max_examples=40)
@given(some, st.integers(-3, 12))
def test_a_week_whose_slots_are_read_as_overrides_is_what_expanding_it_gives(reservation, shift):
    resource = encode_reservation(CONFIG, reservation, "mark")
    monday = utc(*reservation.week.monday.timetuple()[:3]) + timedelta(days=shift)
    horizon = TimeRange(monday - timedelta(days=9), monday + timedelta(days=9))
    quick = read(resource, "w.ics", horizon)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "_overrides_of_all", lambda _events: None)
        plain = read(resource, "w.ics", horizon)
    assert sorted(quick.occurrences, key=repr) == sorted(plain.occurrences, key=repr)
    assert replace(quick, occurrences=()) == replace(plain, occurrences=())


@settings(max_examples=20)
@given(st.lists(changes, min_size=1, max_size=4))
def test_a_check_in_a_followed_agenda_is_the_check_in_one_read_anew(tmp_path_factory, story):
    town = Town(tmp_path_factory.mktemp("town") / "deployments.db")
    for change in story:
        agenda, anew = town.apply(change), town.anew()
        for week in WEEKS:
            if week.monday <= town.now.date() + timedelta(days=2):
                continue
            planned = plan(CONFIG, PAIR, week, NOW)
            found, plain = (check(one, planned.slots, planned.conductors) for one in (agenda, anew))
            assert sorted(map(repr, found)) == sorted(map(repr, plain))
            for slot in planned.slots:
                window = next(one for one in CONFIG.train_windows if one.name == slot.window)
                arguments = (slot, window, tuple(planned.conductors(slot)))
                assert _by_itself(*arguments, hours=False, clocks=False) == _by_itself.__wrapped__(
                    *arguments, hours=False, clocks=False
                )
    town.calendar.close()


spans = st.tuples(st.integers(0, 500), st.integers(0, 200), st.booleans())


@given(st.lists(spans, max_size=12), st.integers(0, 700), st.integers(1, 50))
def test_a_diary_finds_every_absence_that_overlaps_a_span(absences, first, hours):
    def instant(hour, floats=False):
        return (utc(2026, 12, 1) + timedelta(hours=hour)).replace(tzinfo=None if floats else UTC)

    written = [
        Occurrence(instant(start, floats), instant(start + length, floats), str(n), "away")
        for n, (start, length, floats) in enumerate(absences)
    ]
    start, end = instant(first), instant(first + hours)
    diary = Diary((one, None) for one in written)
    for observer in ("Pacific/Kiritimati", "UTC", "Pacific/Pago_Pago"):

        def overlap(one, observer=observer):
            begin, finish = one.span(observer)
            return begin < end and start < finish

        assert {one.uid for one, _ in diary.near(start, end) if overlap(one)} == {
            one.uid for one in written if overlap(one)
        }


def cache_of(app):
    """The answer cache of an app that has answered once."""
    layer = app.middleware_stack
    while not isinstance(layer, AnswerCache):
        layer = getattr(layer, "app", None) or layer._app
    return layer


@settings(max_examples=8)
@given(st.lists(changes, min_size=1, max_size=3))
def test_an_answer_from_the_cache_is_the_one_the_app_would_give(tmp_path_factory, story):
    town = Town(tmp_path_factory.mktemp("town") / "deployments.db")
    app = create_app(CONFIG, town.calendar, lambda: town.now)
    with TestClient(app, base_url="http://localhost") as client:
        state = app.state.calsync
        client.get("/deployments.ics")
        cache, etags = cache_of(app), set()
        for change in story:
            town.now += timedelta(minutes=1)
            town.apply(change)
            state.refresh()
            for path in ("/deployments.ics", "/deployments.ics?only=reservations", "/api/conflicts?week=2026-W50"):
                etags.add(client.get(path).headers.get("etag", "none"))
                for known in (None, *etags, 'W/"x"', "*"):
                    headers = {"If-None-Match": known} if known else {}
                    methods = ("GET", "HEAD") if path.startswith("/deployments") else ("GET",)
                    cache._answers.clear()
                    plain = [client.request(method, path, headers=headers) for method in methods]
                    # An answer whose Last-Modified would still be to come is not kept.
                    assert cache._answers or state.sync.agenda.changed > town.now
                    again = [client.request(method, path, headers=headers) for method in methods]
                    for one, other in zip(plain, again, strict=True):
                        assert (one.status_code, one.content) == (other.status_code, other.content)
                        assert dict(one.headers) == dict(other.headers)


def test_the_cache_is_bounded_in_answers_and_in_bytes_and_takes_a_query_in_any_order(tmp_path, monkeypatch):
    app = create_app(CONFIG, SqlCalendar.sqlite(tmp_path / "deployments.db"), lambda: NOW)
    with TestClient(app, base_url="http://localhost") as client:
        size = len(client.get("/deployments.ics?alarm=1s").content)
        cache = cache_of(app)
        monkeypatch.setattr("calsync.web.cache.MAX_ANSWERS", 5)
        for seconds in range(10):
            client.get(f"/deployments.ics?alarm={seconds}s")
            assert len(cache._answers) <= 5
        monkeypatch.setattr("calsync.web.cache.MAX_BYTES", 2 * size)
        client.get("/deployments.ics?alarm=11s")
        assert sum(len(answer.body) for answer in cache._answers.values()) <= 2 * size
        client.get("/deployments.ics?window=american&alarm=1s")
        kept = len(cache._answers)
        client.get("/deployments.ics?alarm=1s&window=american")
        assert len(cache._answers) == kept


def test_feeds_asked_for_by_many_at_once_are_all_answered(tmp_path):
    app = create_app(CONFIG, SqlCalendar.sqlite(tmp_path / "deployments.db"), lambda: NOW)
    with TestClient(app, base_url="http://localhost") as client, ThreadPoolExecutor(20) as crowd:
        urls = [f"/deployments.ics?alarm={n % 60}s" for n in range(300)]
        assert {answer.status_code for answer in crowd.map(client.get, urls)} == {200}


def test_an_answer_is_not_given_again_under_a_name_that_the_server_does_not_have(tmp_path):
    app = create_app(CONFIG, SqlCalendar.sqlite(tmp_path / "deployments.db"), lambda: NOW)
    with TestClient(app, base_url="http://localhost") as client:
        assert [client.get("/deployments.ics").status_code for _ in range(3)] == [200] * 3
        assert client.get("/deployments.ics", headers={"Host": "elsewhere.example"}).status_code == 421
        assert client.get("/deployments.ics?windw=x").status_code == 422


@given(
    st.sampled_from(["HOURLY", "DAILY", "WEEKLY"]),
    st.integers(1, 60),
    st.integers(1, 5),
    st.sets(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])),
    st.datetimes(utc(2020, 1, 1).replace(tzinfo=None), utc(2030, 1, 1).replace(tzinfo=None)),
)
def test_a_counted_rule_starts_nothing_after_it_is_said_to_be_over(frequency, instances, interval, days, first):
    by = f";BYDAY={','.join(sorted(days))}" if days and frequency == "WEEKLY" else ""
    rule = f"FREQ={frequency};COUNT={instances};INTERVAL={interval}{by}"
    every = list(rrulestr(rule, dtstart=first))
    assert len(every) == instances
    assert every[-1].replace(tzinfo=UTC) <= last_start(vRecur.from_ical(rule), first.replace(tzinfo=UTC))


past = st.integers(1, 3000).map(lambda days: NOW - timedelta(days=days))
RULES = ["", "RRULE:FREQ=WEEKLY;COUNT=4", "RRULE:FREQ=WEEKLY;COUNT=3;INTERVAL=2;BYDAY=MO,FR", "RRULE:FREQ=YEARLY"]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(past, st.sampled_from(RULES)), max_size=8),
    st.integers(0, 200),
)
def test_history_that_was_left_out_changes_nothing_that_anybody_sees(tmp_path_factory, events, later):
    file = tmp_path_factory.mktemp("town") / "deployments.db"
    town = Town(file)
    for n, (start, rule) in zip(count(), events):
        lines = [f"DTSTART:{start:%Y%m%dT%H%M%SZ}", "DURATION:PT1H", *([rule] if rule else [])]
        town.calendar.put(f"{n}.ics", ics(*lines, uid=f"{n}"), etag=None)
    town.now += timedelta(days=later)
    whole, brief = town.anew(), town.anew()  # the first one told the calendar what is over
    assert len(brief.objects) <= len(whole.objects)
    assert not brief.history
    assert render(whole, town.now).body == render(brief, town.now).body
    assert whole.quarters == brief.quarters
    # Somebody who knows nothing of this makes one of them new.
    if events:
        text = ics(f"DTSTART:{town.now:%Y%m%dT%H%M%SZ}", "DURATION:PT1H", "SUMMARY:again", uid="0")
        with sqlite3.connect(file) as other:
            other.execute("UPDATE calendar SET revision = revision + 1")
            revision = "(SELECT revision FROM calendar)"
            other.execute(f"UPDATE resources SET ics = ?, revision = {revision} WHERE href = '0.ics'", [text])
        other.close()
        assert "again" in render(town.anew(), town.now).body.decode()
    town.calendar.close()
