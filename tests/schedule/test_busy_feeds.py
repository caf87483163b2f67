"""People's own calendars as busy feeds: what they say, and what becomes of feeds that cannot be read."""

import http.server
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsync.booking import absences, reservations
from calsync.core.absence import AbsenceRecord
from calsync.core.conductors import Pair
from calsync.core.weeks import Week
from calsync.ical.occurrences import Occurrence
from calsync.schedule import availability, busy_feeds
from calsync.schedule.absences import list_absences
from calsync.schedule.agenda import blank
from calsync.schedule.busy_feeds import EVERY, STALE, Feeds
from calsync.schedule.check import ReservationRequest
from calsync.schedule.conflicts import check, conflicts_of_reservations
from calsync.schedule.diary import Busy
from calsync.schedule.rotation import rotation
from calsync.schedule.status import on_call_status
from calsync.schedule.sync import CalendarSync
from support.dripping import Dripping
from support.feed_server import MEETING, freebusy
from support.pair import ANA, BEN, CEM, TEAM, W49, december
from support.processes import until
from support.samples import configured, event, ics


@pytest.fixture
def feeding(feed):
    return configured(conductors=[TEAM[0] | {"calendar": feed.url}, *TEAM[1:]])


def with_feed(sync, feeds, now):
    sync.busy = feeds.refresh(sync.agenda.horizon, now)
    return sync


@pytest.fixture
def fed(calendar, feeding, now):
    sync = CalendarSync(calendar, feeding, now)
    reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), W49), now)
    return sync


def kinds(sync, now):
    ((_, found),) = conflicts_of_reservations(sync.refresh(now), now)
    return [(conflict.kind, conflict.slot) for conflict in found]


@pytest.mark.parametrize(
    ("meetings", "shortest", "hit"),
    [
        ([("1130", "1200")], "0m", True),
        ([("1130", "1200")], "30m", True),
        ([("1130", "1200")], "31m", False),
        ([("1130", "1200"), ("1200", "1230")], "1h", True),
        ([("1230", "1300"), ("1300", "1330")], "1h", True),  # the second is behind what is watched
        ([("1100", "1110"), ("1030", "1105"), ("1105", "1130")], "1h", True),
        ([("1030", "1105"), ("1106", "1130")], "1h", False),
        ([("1130", "1200"), ("1201", "1231")], "1h", False),
    ],
)
def test_what_a_feed_calls_busy_for_a_shorter_time_is_no_absence(fed, meetings, shortest, hit, now):
    spans = [(december(1, int(a[:2]), int(a[2:])), december(1, int(b[:2]), int(b[2:]))) for a, b in meetings]
    fed.busy = {"ana": Busy(tuple(Occurrence(*span, f"{n}@example.org", "x") for n, span in enumerate(spans)))}
    fed.agenda = replace(fed.agenda, config=configured(conductors=TEAM, conflicts={"shortest_busy": shortest}))
    assert kinds(fed, now) == ([("busy", "2026-12-01-european")] if hit else [])
    assert (on_call_status(fed.agenda, ANA, spans[0][0]).away_until is not None) == hit


def test_what_has_no_length_in_a_feed_is_no_absence_and_is_not_listed(fed, now):
    midnight = datetime(2026, 12, 1, 9, tzinfo=UTC)  # in the middle of the slot
    fed.busy = {"ana": Busy((Occurrence(midnight, midnight, "reminder", "x"),))}
    assert kinds(fed, now) == []
    assert list_absences(fed.refresh(now), now) == []


def test_free_and_cancelled_events_and_the_slots_themselves_are_no_absence(fed, feeding, feed, tmp_path, now):
    span = MEETING[1:]
    feed.body = ics(*span, "TRANSP:TRANSPARENT", before="").replace(b"END:VCALENDAR\r\n", b"") + b"".join(
        ics(*lines, uid=uid).split(b"PRODID:-//test//test//EN\r\n")[1].replace(b"END:VCALENDAR\r\n", b"")
        for lines, uid in [
            ((*span, "STATUS:CANCELLED"), "cancelled@example.org"),
            (span, "2026-12-01-european@calsync"),
            (span, "train-2026-W49"),
        ]
    ) + b"END:VCALENDAR\r\n"  # fmt: skip
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == []


def test_a_feed_is_asked_for_with_its_etag_and_not_all_the_time(fed, feeding, feed, tmp_path, now):
    feeds = Feeds(feeding, tmp_path / "copies")
    feed.body = ics(*MEETING)
    for after in (timedelta(), EVERY / 2, EVERY, 2 * EVERY):
        with_feed(fed, feeds, now + after)
    assert feed.seen == [None, '"1"', '"1"']
    assert kinds(fed, now) == [("busy", "2026-12-01-european")]


def test_a_new_process_asks_a_feed_however_lately_another_one_did(fed, feeding, feed, tmp_path, now):
    feed.body = ics(*MEETING)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    feed.body, feed.etag = ics("SUMMARY:Moved", "DTSTART:20261202T093000Z", "DTEND:20261202T100000Z"), '"2"'
    later = now + timedelta(seconds=1)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), later)
    assert kinds(fed, later) == [("busy", "2026-12-02-european")]
    feed.status = 404
    feeds = Feeds(feeding, tmp_path / "copies")
    feeds.refresh(fed.agenda.horizon, later)
    (why,) = feeds.failures(fed.agenda.horizon, later).values()
    assert "it answers 404" in why


def many(*events):
    """A calendar of events, each with a UID of its own."""
    found = b"".join(f"{event(*lines, uid=f'{n}@example.org')}\n".encode() for n, lines in enumerate(events))
    return b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//test//EN\r\n" + found + b"END:VCALENDAR\r\n"


@pytest.mark.heavy
def test_a_feed_with_more_in_it_than_can_be_read_is_unknown_before_long(fed, feeding, feed, tmp_path, now, monkeypatch):
    monkeypatch.setattr(busy_feeds, "READING", 0.2)
    daily = ("SUMMARY:Daily", "DTSTART:20260101T093000Z", "DTEND:20260101T100000Z", "RRULE:FREQ=DAILY")
    feed.body = many(*[daily] * 1_000)
    begun = time.thread_time()
    assert busy_feeds._read(feed.body, fed.agenda.horizon).unplaced
    assert len(busy_feeds._read(feed.body, fed.agenda.horizon).occurrences) < 100_000
    assert time.thread_time() - begun < 30  # reading all of it takes minutes
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert {kind for kind, _ in kinds(fed, now)} == {"unknown"}
    message = next(conflicts_of_reservations(replace(fed.agenda, config=feeding), now))[1][0].message
    assert "takes more than 0.2 s" in message


def test_a_feed_that_was_never_read_is_unknown_and_never_free(fed, feeding, feed, tmp_path, now):
    feed.status = 404
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("unknown", f"2026-12-0{day}-european") for day in (1, 2, 3)]
    message = next(conflicts_of_reservations(replace(fed.agenda, config=feeding), now))[1][0].message
    assert "(it answers 404)" in message
    assert "secret" not in message
    with pytest.raises(Exception, match="Cannot tell whether ana is away"):
        reservations.reserve(fed, ReservationRequest(Pair(ANA, CEM), Week(2026, 50)), now)


def test_a_feed_not_read_yet_is_unknown(fed, feeding, tmp_path, now):
    fed.busy = Feeds(feeding, tmp_path / "copies").cached(fed.agenda.horizon, now)
    assert {kind for kind, _ in kinds(fed, now)} == {"unknown"}


@pytest.mark.parametrize("spoil", ["away", "page", "long", "slow"])
def test_the_last_good_copy_is_kept_in_memory_and_on_disk(fed, feeding, feed, tmp_path, now, spoil, monkeypatch):
    feed.body = ics(*MEETING)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    if spoil == "away":
        feed.stop()
    elif spoil == "page":
        feed.body, feed.etag = b"<html>Sign in</html>", '"2"'
    elif spoil == "long":
        feed.body, feed.etag = ics() + b" " * busy_feeds.MAX_BYTES, '"2"'
    else:
        monkeypatch.setattr(busy_feeds, "MAX_SECONDS", 0.3)
        feed.drips, feed.etag = True, '"2"'
    later = now + timedelta(hours=1)
    restarted = Feeds(feeding, tmp_path / "copies")
    with_feed(fed, restarted, later)
    assert restarted._copies["ana"].failure
    assert kinds(fed, later) == [("busy", "2026-12-01-european")]
    much_later = now + STALE + timedelta(hours=1)
    with_feed(fed, restarted, much_later)
    assert ("busy", "2026-12-01-european") in kinds(fed, much_later)
    assert ("unknown", "2026-12-02-european") in kinds(fed, much_later)
    if spoil == "away":
        feed.thread = threading.Thread(target=lambda: None)
        feed.thread.start()
        feed.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        threading.Thread(target=feed.server.serve_forever, args=(0.02,)).start()


@pytest.mark.parametrize(
    ("lines", "hit"),
    [
        (["FREEBUSY:20261201T093000Z/20261201T100000Z"], [1]),
        (["FREEBUSY;FBTYPE=BUSY:20261201T093000Z/PT30M,20261202T093000Z/PT30M"], [1, 2]),
        (["FREEBUSY;FBTYPE=BUSY-UNAVAILABLE:20261201T093000Z/PT30M", "FREEBUSY:20261203T093000Z/PT30M"], [1, 3]),
        (["FREEBUSY;FBTYPE=busy-tentative:20261201T093000Z/PT30M"], [1]),
        (["FREEBUSY;FBTYPE=X-WORKING-ELSEWHERE:20261201T093000Z/PT30M"], [1]),
        (["FREEBUSY;FBTYPE=FREE:20261201T093000Z/PT30M"], []),
        ([], []),
    ],
)
def test_free_busy_time_is_read_as_the_absences_it_tells_of(fed, feeding, feed, tmp_path, now, lines, hit):
    feed.body = freebusy("DTSTART:20261101T000000Z", *lines)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("busy", f"2026-12-0{day}-european") for day in hit]


@pytest.mark.parametrize(
    "line",
    [
        "FREEBUSY:soon",
        "FREEBUSY:20261201T093000Z/20261201T080000Z",
        "FREEBUSY:20261201T093000/20261201T100000",
        "FREEBUSY;TZID=Europe/Paris:20261201T093000/20261201T100000",
        "FREEBUSY:" + ",".join(["20260601T093000Z/PT30M"] * 2000),
    ],
)
def test_free_busy_time_that_cannot_be_read_is_unknown_and_never_free(fed, feeding, feed, tmp_path, now, line):
    feed.body = freebusy(line)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("unknown", f"2026-12-0{day}-european") for day in (1, 2, 3)]


def test_behind_the_span_of_free_busy_time_nothing_is_known(fed, feeding, feed, tmp_path, now):
    feed.body = freebusy("DTSTART:20261101T000000Z", "DTEND:20261202T000000Z", "FREEBUSY:20261130T093000Z/PT30M")
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("unknown", f"2026-12-0{day}-european") for day in (2, 3)]


@pytest.mark.heavy
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"])
def test_a_feed_that_drips_is_cut_and_keeps_nobody_elses_back(feed, tmp_path, now, monkeypatch, head):
    monkeypatch.setattr(busy_feeds, "MAX_SECONDS", 3)
    feed.body = ics(*MEETING)
    with Dripping(head, b"X-Slow: x") as slow:
        urls = (f"{slow.url}/secret", feed.url, f"{slow.url}/secret")
        config = configured(conductors=[one | {"calendar": url} for one, url in zip(TEAM, urls, strict=True)])
        feeds = Feeds(config, tmp_path / "copies")
        horizon = CalendarSync(None, config, now).agenda.horizon
        asking = threading.Thread(target=feeds.refresh, args=(horizon, now))
        asking.start()
        until(lambda: not feeds.cached(horizon, now)["ben"].unknown, "ben's feed is read")
        assert asking.is_alive()  # the others are still waited for
        asking.join()
        found = feeds.cached(horizon, now)
        assert [one.uid for one in found["ben"].occurrences]
        assert "(it does not answer within 3 s)" in found["ana"].unknown
        assert found["cem"].unknown == found["ana"].unknown


def test_what_nobody_foresaw_about_one_feed_is_told_without_its_address(feed, tmp_path, now, monkeypatch, caplog):
    good, bad = ics(*MEETING), configured(conductors=[one | {"calendar": feed.url} for one in TEAM])
    feed.body = good

    def spoiled(url, etag):
        raise RuntimeError(url)

    monkeypatch.setattr(busy_feeds, "_fetch", spoiled)
    found = Feeds(bad, tmp_path / "copies").refresh(CalendarSync(None, bad, now).agenda.horizon, now)
    assert all("it cannot be used: RuntimeError" in one.unknown for one in found.values())
    assert "busy feed of ana" in caplog.text
    assert "secret" not in caplog.text


def test_what_a_feed_says_of_reserved_slots_is_listed_with_the_absences_by_start(fed, feeding, feed, tmp_path, now):
    feed.body = ics(
        *MEETING,
        before="\n".join(
            event(*lines, uid=f"{n}@example.org")
            for n, lines in enumerate(
                [
                    ("DTSTART:20261202T120000Z", "DTEND:20261202T140000Z"),  # soon after a slot
                    ("DTSTART:20261201T140000Z", "DTEND:20261201T150000Z"),  # neither in one nor soon after it
                    ("DTSTART;VALUE=DATE:20261203", "DTEND;VALUE=DATE:20261205"),
                ]
            )
        ),
    )
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    told = absences.add_absence(fed, "ben", december(1, 9, 45), december(1, 20), now)
    absences.add_absence(fed, "ben", date(2026, 12, 1), date(2026, 12, 1), now)  # from 07:00 in UTC

    def rows(at):
        found = list_absences(fed.agenda, at)
        return [(one.source, one.record.conductor, one.start, one.end, one.all_day) for one in found]

    paris = [(december(1, 9, 30), december(1, 10)), (december(2, 12), december(2, 14))]
    assert rows(now) == [
        ("calendar", "ben", date(2026, 12, 1), date(2026, 12, 1), True),
        ("feed", "ana", *paris[0], False),
        ("calendar", "ben", december(1, 9, 45), december(1, 20), False),
        ("feed", "ana", *paris[1], False),
        ("feed", "ana", date(2026, 12, 3), date(2026, 12, 4), True),
    ]
    found = list_absences(fed.agenda, now)[1]
    assert (found.name, found.etag, found.record) == (None, None, AbsenceRecord("ana", "Europe/Paris"))
    assert [conflict.slot for conflict in found.conflicts] == ["2026-12-01-european"]
    assert rows(december(1, 10))[1:2] == [("calendar", "ben", told.start, told.end, False)]  # the meeting is over
    fed.agenda = replace(fed.agenda, config=configured(conductors=TEAM, conflicts={"shortest_busy": "90m"}))
    assert [one[2] for one in rows(now) if one[0] == "feed"] == [paris[1][0], date(2026, 12, 3)]


def test_the_address_of_a_feed_comes_from_the_environment_and_is_never_shown(fed, feed, tmp_path, now, caplog):
    people = [one | {"name": name} for one, name in zip(TEAM, ("ana", "conductor-eu", "Jörg B."), strict=True)]
    (tmp_path / "address").write_text(f"{feed.url}\n")
    environ = {"CALSYNC_BUSY_CONDUCTOR_EU": feed.url, "CALSYNC_BUSY_J_RG_B__FILE": str(tmp_path / "address")}
    config = configured(environ, conductors=people)
    assert "secret" not in repr(config)
    feed.body = ics(*MEETING)
    found = Feeds(config, tmp_path / "copies").refresh(fed.agenda.horizon, now)
    assert [name for name, one in found.items() if one.occurrences and one.unknown is None] == ["conductor-eu", "Jörg B."]
    feed.status = 500
    found = Feeds(config, tmp_path / "others").refresh(fed.agenda.horizon, now)
    assert "(it answers 500)" in found["Jörg B."].unknown
    assert "secret" not in caplog.text + repr(found)


def test_a_copy_is_readable_for_nobody_else_and_a_folder_that_cannot_be_written_costs_only_the_copy(
    fed, feeding, feed, tmp_path, now
):
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    (copy,) = (tmp_path / "copies").iterdir()
    assert copy.stat().st_mode & 0o077 == 0
    assert "secret" not in copy.name
    (tmp_path / "file").write_text("")
    with_feed(fed, Feeds(feeding, tmp_path / "file"), now)
    assert kinds(fed, now) == []


def test_an_event_of_a_feed_that_cannot_be_read_in_full_is_unknown(fed, feeding, feed, tmp_path, now):
    feed.body = ics("SUMMARY:odd", "DTSTART;TZID=Nowhere/Land:20261201T100000", "DTEND;TZID=Nowhere/Land:20261201T110000")
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert ("unknown", "2026-12-01-european") in kinds(fed, now)


def test_a_meeting_in_somebodys_own_calendar_is_an_absence_without_its_title(fed, feeding, feed, tmp_path, now):
    feed.body = ics(*MEETING)
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    assert kinds(fed, now) == [("busy", "2026-12-01-european")]
    (conflict,) = next(conflicts_of_reservations(replace(fed.agenda, config=feeding), now))[1]
    assert "Board" not in conflict.message + conflict.event.summary
    assert conflict.event.uid is None
    assert conflict.cover[0].name == "ben"


def test_short_absences_on_the_calendar_and_what_cannot_be_read_in_full_always_count(fed, now):
    fed.agenda = replace(fed.agenda, config=configured(conductors=TEAM, conflicts={"shortest_busy": "12h"}))
    absences.add_absence(fed, "ana", december(1, 11), december(1, 11, 5), now)
    fed.busy = {"ana": Busy((Occurrence(december(2, 9), december(2, 9, 5), "x", "x", certain=False),))}
    assert kinds(fed, now) == [("busy", "2026-12-01-european"), ("unknown", "2026-12-02-european")]


def test_an_absence_that_the_clocks_turn_round_counts(fed):
    night = Occurrence(datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 3, 15), "x", "x")
    agenda = replace(blank(fed.config, december(1, 9)), busy={"ana": Busy((night,))})
    gone = list(
        availability.absences(agenda, ANA, datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 29, 2, tzinfo=UTC))
    )
    assert [one.start < one.end for one in gone] == [True]


def test_a_weekly_meeting_behind_a_slot_passes_its_owner_over_unless_it_is_too_short(fed, feeding, feed, tmp_path, now):
    feed.body = ics("SUMMARY:Sync", "DTSTART:20261201T113000Z", "DTEND:20261201T120000Z", "RRULE:FREQ=WEEKLY;COUNT=60")
    with_feed(fed, Feeds(feeding, tmp_path / "copies"), now)
    turns = {"order": ["ana", "ben", "cem"], "start": "2026-W50"}
    for conflicts, passed in (({}, True), ({"shortest_busy": "1h"}, False)):
        config = configured(conductors=TEAM, rotation=turns, conflicts=conflicts)
        found = rotation(replace(fed.refresh(now), config=config), now, 12)
        assert any("ana" in turn.passed for turn in found.turns) == passed
        assert any(turn.primary == "ana" for turn in found.turns) != passed


MINUTES = st.lists(st.tuples(st.integers(-200, 400), st.integers(0, 90)), max_size=12)


@given(MINUTES, st.integers(0, 180))
def test_busy_time_counts_by_the_length_of_its_unbroken_run(meetings, shortest):
    begin = december(1, 9)
    spans = {(begin + timedelta(minutes=start), begin + timedelta(minutes=start + length)) for start, length in meetings}
    known = Busy(tuple(Occurrence(*span, "x", "x") for span in spans))
    config = configured(conductors=TEAM, conflicts={"shortest_busy": f"{shortest}m"})
    agenda = replace(blank(config, begin), busy={"ana": known})
    found = [(one.start, one.end) for one in availability.absences(agenda, ANA, begin, begin + timedelta(hours=2))]
    minutes = {
        start + timedelta(minutes=n) for start, end in spans for n in range(int((end - start).total_seconds()) // 60)
    }

    def unbroken(at):
        first = last = at
        while first - timedelta(minutes=1) in minutes:
            first -= timedelta(minutes=1)
        while last + timedelta(minutes=1) in minutes:
            last += timedelta(minutes=1)
        return last - first + timedelta(minutes=1)

    near = [(start, end) for start, end in spans if start < end and start < begin + timedelta(hours=2) and begin < end]
    assert found == sorted(span for span in near if unbroken(span[0]) >= timedelta(minutes=shortest))


def test_whoever_is_not_known_to_be_free_covers_for_nobody(fed, now):
    absences.add_absence(fed, "ben", date(2026, 12, 1), date(2026, 12, 1), now)
    fed.busy = {"ana": Busy(unknown="their busy feed cannot be read")}
    agenda = fed.refresh(now)
    reservation = agenda.reservation(W49).reservation
    found = check(agenda, reservation.slots, reservation.conductors, own="train-2026-W49.ics", pair=reservation.pair)
    (conflict,) = [one for one in found if one.kind == "busy" and one.slot == "2026-12-01-american"]
    assert [one.name for one in conflict.cover] == []
