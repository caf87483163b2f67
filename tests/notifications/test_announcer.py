"""Announcements: each slot once, whoever announces, dies, or starts in mid-window."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from icalendar import Calendar

from calsync.booking import reservations
from calsync.calendars.sql import SqlCalendar
from calsync.core.conductors import Pair
from calsync.core.config import load
from calsync.core.delivery import LEASE
from calsync.core.errors import Refused, Unreachable
from calsync.core.weeks import Week
from calsync.notifications import announcer
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.check import ReservationRequest
from calsync.schedule.sync import CalendarSync
from support.failing import Ended, Fuse, Refusing
from support.irc_servers import Listener, Ngircd
from support.pair import ANA, BEN, NEAR, TEAM, W49, handed, settled
from support.processes import calsync, stop, until
from support.samples import configured

TEN = timedelta(minutes=10)
START = datetime(2026, 12, 1, 9, tzinfo=UTC)
"""When Tuesday's European slot starts; it ends at 11:00 in UTC."""


@pytest.fixture
def team():
    return configured(conductors=TEAM, calendar=NEAR, train={"ticket_url": "https://phabricator.example.org/{ticket}"})


def step(calendar, config, room, at, before=TEN):
    """One round of an announcer that was just started."""
    sync = CalendarSync(calendar, config, at)
    rounds = iter([False, True])
    announcer.run(Dispatcher(sync, Destinations(channels=Channels(room, room))), lambda: at, lambda _: next(rounds), before)


class Time:
    """A clock that goes on by what is waited, until `end`, and keeps when the room heard what."""

    def __init__(self, start, end, room, spoil=lambda at: None):
        self.at, self.end, self.room, self.spoil = start, end, room, spoil
        self.heard, self.waits = [], []

    def clock(self):
        return self.at

    def wait(self, seconds):
        self.heard += [(self.at, text) for text in self.room.said[len(self.heard) :]]
        self.waits.append(seconds)
        assert len(self.waits) < 10_000
        self.at += timedelta(seconds=seconds)
        self.spoil(self.at)
        return self.at >= self.end


class Counting:
    """A calendar that counts how often it is asked for changes."""

    def __init__(self, calendar):
        self.calendar, self.asked = calendar, 0

    def __getattr__(self, name):
        return getattr(self.calendar, name)

    def changes(self, *arguments):
        self.asked += 1
        return self.calendar.changes(*arguments)


def announcing(calendar, config, room, time, before=TEN):
    """An announcer that runs by `time`."""
    sync = CalendarSync(calendar, config, time.at)
    destinations = Destinations(channels=Channels(room, room))
    announcer.run(Dispatcher(sync, destinations), time.clock, time.wait, before)


def test_the_channel_hears_before_a_slot_and_when_it_starts_who_conducts_and_where_the_ticket_is(
    known, calendar, team, room
):
    for minutes in (-11, -10, -9, -1, 0, 1, 60, 119, 120, 200):
        step(calendar, team, room, START + timedelta(minutes=minutes))
    train = "MediaWiki train 1.46.0-wmf.5 – group0 (European train window)"
    who = "ana (ana_) conducts; ticket: https://phabricator.example.org/T400001"
    assert room.said == [
        f"{train} starts in 10 min, at 09:00 UTC; {who}",
        f"{train} has started and ends at 11:00 UTC; {who}",
    ]


def test_an_announcer_that_starts_in_mid_window_announces_what_nobody_did_and_nothing_else(known, calendar, team, room):
    step(calendar, team, room, START + timedelta(hours=1))
    step(calendar, team, room, START + timedelta(hours=1, minutes=5))
    assert len(room.said) == 1
    assert "has started" in room.said[0]


def test_starts_alone_are_announced_where_no_time_before_is_wanted(known, calendar, team, room):
    for minutes in (-10, -1, 0):
        step(calendar, team, room, START + timedelta(minutes=minutes), before=timedelta())
    assert len(room.said) == 1


@pytest.mark.heavy
def test_every_slot_of_a_week_is_announced_twice_and_once_each(known, calendar, team, room):
    for slot in known.agenda.reservation(W49).reservation.slots:
        for at in (slot.start - TEN, slot.start, slot.end - TEN):
            step(calendar, team, room, at)
    assert len(room.said) == len(set(room.said)) == 12


def test_a_released_week_and_one_that_nobody_holds_are_not_announced(known, calendar, team, room, now):
    reservations.release(known, W49, now)
    step(calendar, team, room, START)
    assert room.said == []


def test_a_train_that_was_handed_off_names_the_new_responsible_person(known, calendar, team, room):
    handed(known, Destinations(), BEN, at=START - timedelta(hours=1))
    step(calendar, team, room, START)
    assert "; ben conducts; " in room.said[0]


def test_a_slot_that_two_share_names_both(calendar, team, room, now):
    sync = CalendarSync(calendar, team, now)
    together = Pair(replace(ANA, window="european"), replace(BEN, window="european"))
    reservations.reserve(sync, ReservationRequest(together, W49), now)
    step(calendar, team, room, START)
    assert room.said[0].endswith("; ana (ana_) and ben conduct")


def test_an_announcement_that_came_too_late_is_not_made(known, calendar, team, room):
    room.down = 1
    step(calendar, team, room, START - TEN)
    found = known.refresh(START).reservation(W49).deliveries
    assert [one.state for one in found] == ["pending"]
    step(calendar, team, room, START + timedelta(minutes=1))
    states = {one.correlation_id: one.state for one in known.refresh(START).reservation(W49).deliveries}
    assert states == {"announce-2026-12-01-european-before": "failed", "announce-2026-12-01-european-start": "sent"}
    assert len(room.said) == 1


def test_any_number_of_announcers_announce_a_slot_once(known, tmp_path, team, room):
    barrier = threading.Barrier(6)

    def work(_):
        calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
        barrier.wait()
        step(calendar, team, room, START)
        calendar.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert len(room.said) == 1


STEPS = 22


@pytest.mark.parametrize("at", range(1, STEPS + 2))
def test_an_announcer_that_ends_between_any_two_steps_leaves_the_slot_announced_once_at_the_most(
    known, calendar, team, room, at
):
    fuse = Fuse(at)
    sync = CalendarSync(fuse.around(calendar, "put", "changes"), team, START)
    channel = fuse.around(room, "send")
    died = False
    try:
        dispatcher = Dispatcher(sync, Destinations(channels=Channels(channel, channel)))
        announcer.run(dispatcher, lambda: START, lambda _: True, TEN)
    except Ended:
        died = True
    assert died == (at <= STEPS), "an announcement has another number of steps; count them anew"
    step(calendar, team, room, START + timedelta(seconds=30))
    found = settled(known, Destinations(channels=Channels(room, room)), START + LEASE, rounds=3)
    assert [one.state for one in found] in (["sent"], ["unknown"])
    assert len(room.said) == 1 or (found[0].state == "unknown" and not room.said)


def test_a_calendar_that_is_away_is_waited_for(known, calendar, team, room, caplog):
    class Flaky:
        away = True

        def __getattr__(self, name):
            if self.away and name != "close":
                raise Unreachable("The calendar does not answer.")
            return getattr(calendar, name)

    flaky = Flaky()

    def back(at):
        flaky.away = at < START + timedelta(minutes=5)

    announcing(flaky, team, room, Time(START, START + timedelta(minutes=10), room, back))
    assert len(room.said) == 1
    assert sum("the calendar is away" in record.message for record in caplog.records) == 1


def test_without_a_channel_the_command_says_what_to_set(run):
    said = run("announce")
    assert said.code == 2
    assert "set notify.operations or CALSYNC_NOTIFY_OPERATIONS" in said.err
    assert run("announce", "--before", "soon").code == 2


# When, and how it stands then


def test_a_start_is_announced_as_it_comes_however_seldom_the_calendar_is_asked(known, calendar, team, room):
    seldom = team.model_copy(update={"calendar": team.calendar.model_copy(update={"refresh": timedelta(minutes=15)})})
    counting = Counting(calendar)
    time = Time(START - timedelta(minutes=37, seconds=13), START + timedelta(minutes=60), room)
    announcing(counting, seldom, room, time)
    assert [at for at, _ in time.heard] == [START - TEN, START]
    assert max(time.waits) <= 10
    # As often as it says, and for each of two announcements: before it, as it is made, claimed and settled, and read back.
    assert counting.asked <= 97 / 15 + 2 + 2 * 10
    quiet = Counting(calendar)
    announcing(quiet, seldom, room, Time(START - timedelta(hours=10), START - timedelta(hours=9), room))
    assert quiet.asked <= 5


def test_a_message_is_tried_again_when_its_time_comes_and_not_before(known, calendar, team, room):
    room.down = 3
    time = Time(START, START + timedelta(minutes=5), room)
    announcing(calendar, team, room, time)
    ((at, _),) = time.heard
    assert timedelta(seconds=35) <= at - START < timedelta(seconds=38)  # after 5, 10 and 20 s


def test_an_announcement_that_comes_late_says_how_it_is_then(known, calendar, team, room):
    room.down = 1
    step(calendar, team, room, START - TEN)
    handed(known, Destinations(), BEN, at=START - timedelta(minutes=8))
    step(calendar, team, room, START - timedelta(minutes=2))
    (said,) = room.said
    assert "starts in 2 min, at 09:00 UTC; ben conducts;" in said
    (announcement,) = [one for one in known.refresh(START).reservation(W49).deliveries if one.target == "announcements"]
    assert (announcement.state, announcement.text) == ("sent", said)


def moved(calendar, sync, at, by, *, cancelled=False):
    """A person moves Tuesday's European slot in a calendar client, or cancels it."""
    entry = sync.refresh(at).reservation(W49)
    theirs = Calendar.from_ical(entry.ics)
    for event in theirs.events:
        if str(event.get("X-CALSYNC-SLOT", "")) == "2026-12-01-european":
            for name in ("DTSTART", "DTEND"):
                event.add(name, event.pop(name).dt + by)
            if cancelled:
                event["STATUS"] = "CANCELLED"
    calendar.put(entry.href, theirs.to_ical(), etag=entry.etag)


@pytest.mark.parametrize("how", ["released", "cancelled by a person"])
def test_a_slot_that_was_given_up_before_it_could_be_announced_is_not_announced(known, calendar, team, room, how):
    room.down = 1
    step(calendar, team, room, START - TEN)
    if how == "released":
        reservations.release(known, W49, START - timedelta(minutes=8))
    else:
        moved(calendar, known, START - timedelta(minutes=8), timedelta(), cancelled=True)
    for minutes in (-2, 0, 5):
        step(calendar, team, room, START + timedelta(minutes=minutes))
    assert room.said == []
    found = known.refresh(START).reservation(W49).deliveries
    why = "2026-W49 was released meanwhile" if how == "released" else "the slot was given up"
    assert [(one.state, one.detail) for one in found] == [("skipped", why)]


def test_a_slot_that_was_moved_before_it_could_be_announced_is_announced_at_its_new_time(known, calendar, team, room):
    room.down = 2
    hour = timedelta(hours=1)
    step(calendar, team, room, START - TEN)
    step(calendar, team, room, START + timedelta(minutes=1))
    moved(calendar, known, START + timedelta(minutes=2), hour)
    for minutes in (3, 20, 49, 50, 59, 60, 61):
        step(calendar, team, room, START + timedelta(minutes=minutes))
    assert len(room.said) == 2
    assert "starts in 10 min, at 10:00 UTC" in room.said[0]
    assert "has started and ends at 12:00 UTC" in room.said[1]


def test_a_week_that_takes_no_announcement_keeps_no_other_from_being_announced(known, calendar, team, room):
    week = Week(2026, 50)
    reservations.reserve(known, ReservationRequest(Pair(ANA, BEN), week), START)
    (first, *_) = known.agenda.reservation(week).reservation.slots
    entry = known.refresh(START).reservation(W49)
    theirs = Calendar.from_ical(entry.ics)
    for event in theirs.events:  # a slot of the week before is moved to the same time
        if str(event.get("X-CALSYNC-SLOT", "")) == "2026-12-03-european":
            for name in ("DTSTART", "DTEND"):
                event.add(name, event.pop(name).dt + timedelta(days=5))
    calendar.put(entry.href, theirs.to_ical(), etag=entry.etag)
    step(Refusing(calendar, entry.href, Refused("The server refuses it.")), team, room, first.start)
    assert len(room.said) == 1


# Real processes, a real IRC server


@pytest.fixture
def ngircd(tmp_path):
    server = Ngircd(tmp_path).start()
    yield server
    server.stop()


SETTINGS = """
[calendar]
refresh = "1s"
[train]
windows = ["running"]
stages = { mon = "a", tue = "b", wed = "c", thu = "d", fri = "e", sat = "f", sun = "g" }
[windows.running]
title = "Running window"
timezone = "UTC"
"""


class Announcer:
    """A `calsync announce` process."""

    def __init__(self, place, url):
        self.log = place / f"announce{time.monotonic_ns()}.log"
        self.process = calsync(place, self.log, "announce", CALSYNC_NOTIFY_OPERATIONS=url)

    def stop(self, how=signal.SIGTERM):
        return stop(self.process, how)


@pytest.mark.heavy
def test_two_announcers_one_killed_and_started_again_in_mid_window_announce_it_once(tmp_path, ngircd):
    now = datetime.now(UTC)
    start, end = (now + timedelta(minutes=minutes) for minutes in (-30, 90))
    text = SETTINGS + f"start = {start:%H:%M:00}\nend = {end:%H:%M:00}\n"
    (tmp_path / "windows.toml").write_text(text)
    config = load(tmp_path / "windows.toml", {})
    calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
    listener = Listener(ngircd.port)
    url = f"irc://calsync@127.0.0.1:{ngircd.port}/#operations"
    ngircd.stop()  # the channel is down as they start
    announcers = [Announcer(tmp_path, url), Announcer(tmp_path, url)]
    try:
        sync = CalendarSync(calendar, config, now)
        week = Week.containing(start.date())
        reservations.reserve(sync, ReservationRequest(Pair(ANA, BEN), week, ticket="T400001"), now)

        def state():
            entry = sync.refresh(now).reservation(week)
            return [(one.state, one.attempts) for one in entry.deliveries]

        until(lambda: state() and state()[0][0] == "pending" and state()[0][1] >= 1, "it is tried")
        assert announcers[0].stop(signal.SIGKILL) == -signal.SIGKILL
        listener.stop()
        ngircd.start()
        listener = Listener(ngircd.port)
        announcers.append(Announcer(tmp_path, url))
        (said,) = listener.hears(1)
        assert "(Running window) has started" in said
        assert said.endswith("; ana and ben conduct; ticket: T400001")
        until(lambda: state()[0][0] == "sent", "it is sent")
        announcers.append(Announcer(tmp_path, url))  # in mid-window, after it was announced
        until(lambda: "announcing;" in announcers[-1].log.read_text(), "the last one runs")
        assert len(state()) == 1
        assert [one.stop() for one in announcers[1:]] == [0, 0, 0], [one.log.read_text() for one in announcers]
        assert len(listener.said) == 1
    finally:
        for one in announcers:
            one.stop(signal.SIGKILL)
        listener.stop()
        calendar.close()
