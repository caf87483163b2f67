import re
from collections import Counter
from datetime import UTC, datetime, time, timedelta

import pytest
import recurring_ical_events
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar

from calsync.booking.reservations import change, release, reserve
from calsync.calendars.base import Changes, Resource
from calsync.core.conductors import Pair
from calsync.core.weeks import Week
from calsync.ical.reservation import summary
from calsync.schedule.agenda import blank
from calsync.schedule.check import ReservationRequest
from calsync.schedule.feed import AHEAD, Filters, render
from support.feeds import OFFICE, TOGETHER, agenda_of, events_of_week, released, reservation
from support.samples import EU, PAIR, US, configured, event, ics, utc
from support.strategies import foreign

NOW = utc(2026, 11, 24, 12)


def body(config, resources, now=NOW, **filters):
    return render(agenda_of(config, now, resources), now, Filters(**filters)).body


def vevents(text):
    return Calendar.from_ical(text).walk("VEVENT")


def summaries(text):
    return Counter(str(found["SUMMARY"]) for found in vevents(text))


def by_uid(text):
    return {str(found["UID"]): found for found in vevents(text)}


def unfolded(text):
    return re.sub(rb"\r\n[ \t]", b"", text).decode().split("\r\n")


def weekly(*more, uid="weekly@example.org", tz="Europe/Paris", before=""):
    when = (f"DTSTART;TZID={tz}:20261117T090000", f"DTEND;TZID={tz}:20261117T100000", "RRULE:FREQ=WEEKLY")
    return ics("SUMMARY:Weekly meeting", *when, *more, uid=uid, before=before)


MEETING = ics("SUMMARY:Meeting", "DTSTART:20261125T090000Z", "DTEND:20261125T100000Z")


# The bytes, and when they change


def test_two_renders_of_one_agenda_are_the_same_bytes_however_much_time_lies_between_them(config):
    agenda = agenda_of(config, NOW, {**events_of_week(reservation(config)), "weekly.ics": weekly()})
    first, second = render(agenda, NOW), render(agenda, NOW + timedelta(hours=11))
    assert first == second


def test_replicas_that_learned_of_the_same_calendar_in_another_order_serve_the_same_bytes(config):
    resources = {
        **events_of_week(reservation(config)),
        **events_of_week(reservation(config, "2026-W50", TOGETHER)),
        "b.ics": weekly(),
        "a.ics": MEETING,
        "c.ics": weekly(uid="c@example.org", tz="America/Denver"),
    }
    whole = agenda_of(config, NOW, resources)
    backwards = agenda_of(config, NOW, dict(reversed(resources.items())))
    piecemeal = blank(config, NOW)
    for href, text in resources.items():
        piecemeal = piecemeal.after(Changes("1", (Resource(href, '"1"', text),), (), complete=False), NOW)
    feeds = [render(agenda, NOW) for agenda in (whole, backwards, piecemeal)]
    assert len({feed.body for feed in feeds}) == len({feed.etag for feed in feeds}) == 1


def test_the_etag_is_strong_and_moves_when_an_event_comes_and_back_when_it_goes(config):
    empty = agenda_of(config, NOW, {})
    more = empty.after(Changes("2", (Resource("a.ics", '"1"', MEETING),), (), complete=False), NOW)
    less = more.after(Changes("3", (), ("a.ics",), complete=False), NOW)
    first, second, third = (render(agenda, NOW) for agenda in (empty, more, less))
    assert re.fullmatch(r'"[!-~]+"', first.etag)
    assert first.etag == third.etag != second.etag
    assert first.modified < second.modified < third.modified


def test_feeds_with_different_filters_have_different_etags(config):
    agenda = agenda_of(config, NOW, events_of_week(reservation(config)))
    choices = ({}, {"windows": ("european",)}, {"only_reservations": True}, {"alarm": timedelta(minutes=5)})
    assert len({render(agenda, NOW, Filters(**filters)).etag for filters in choices}) == len(choices)


def test_last_modified_is_in_whole_seconds_of_utc_and_not_in_the_future(config):
    now = NOW.replace(microsecond=123456)
    feed = render(agenda_of(config, now, {"a.ics": MEETING}), now)
    assert feed.modified.utcoffset() == timedelta()
    assert feed.modified.microsecond == 0
    assert feed.modified <= now + timedelta(seconds=1)  # contents never share a second


def test_a_feed_says_until_when_it_stays_right_and_last_modified_moves_when_the_day_alone_changes_it(config):
    agenda = agenda_of(config, NOW, {})
    today = render(agenda, NOW)
    assert today.expires == utc(2026, 11, 25)
    assert render(agenda, today.expires - timedelta(microseconds=1)) == today
    tomorrow = render(agenda, today.expires)
    assert tomorrow.etag != today.etag
    assert tomorrow.modified == today.expires


def test_a_feed_with_a_released_slot_stays_right_until_that_slot_is_past(config):
    standing = reservation(config)
    agenda = agenda_of(config, NOW, released(standing))
    slot = standing.slots[0]
    morning = slot.start - timedelta(hours=4)
    feed = render(agenda, morning)
    assert feed.expires == slot.end
    assert render(agenda, slot.end - timedelta(seconds=1)) == feed
    later = render(agenda, slot.end)
    assert later.etag != feed.etag
    assert later.modified == slot.end


# What stands in it


def test_the_feed_carries_its_name_and_how_often_to_look_again(config):
    calendar = Calendar.from_ical(body(config, {}))
    assert calendar["NAME"] == calendar["X-WR-CALNAME"] == "Deployments"
    assert calendar["VERSION"] == "2.0"
    lines = unfolded(body(config, {}))
    assert "REFRESH-INTERVAL;VALUE=DURATION:PT15M" in lines
    assert "X-PUBLISHED-TTL:PT15M" in lines


def test_no_method_makes_the_subscription_look_like_an_invitation(config):
    resources = {"a.ics": MEETING.replace(b"VERSION:2.0\r\n", b"VERSION:2.0\r\nMETHOD:REQUEST\r\n")}
    text = body(config, {**resources, **events_of_week(reservation(config))})
    assert "Meeting" in summaries(text)
    assert not [line for line in unfolded(text) if line.upper().startswith("METHOD")]


def test_each_slot_is_a_plain_event_in_utc_with_a_stable_uid(config):
    standing = reservation(config)
    found = by_uid(body(config, events_of_week(standing)))
    for slot in standing.slots:
        shown = found[f"{slot.id}@calsync"]
        assert (shown.start, shown.end) == (slot.start, slot.end)
        assert shown["DTSTART"].to_ical().endswith(b"Z")
        assert shown["SUMMARY"] == summary(standing, slot)
        assert shown["STATUS"] == "CONFIRMED"
        assert not {"RRULE", "RDATE", "RECURRENCE-ID"} & set(shown)


def test_a_slot_links_to_the_ticket_and_has_the_windows_category():
    config = configured(train={"ticket_url": "https://tickets.example.org/{ticket}"})
    standing = reservation(config, ticket="T400001")
    for shown in by_uid(body(config, events_of_week(standing))).values():
        assert shown["URL"] == "https://tickets.example.org/T400001"
        assert shown.categories == ["train"]


def test_recurring_windows_and_freezes_show_for_the_coming_eight_weeks_in_utc(config):
    text = body(config, {})
    shown = vevents(text)
    titles = {window.title for name, window in config.windows.items() if name not in config.train.windows}
    assert set(summaries(text)) == titles | {freeze.reason for freeze in config.freezes}
    assert all(found["DTSTART"].to_ical().endswith(b"Z") for found in shown)
    until = utc(2026, 11, 24) + AHEAD
    assert all(found.start < until and found.end > utc(2026, 11, 24) for found in shown)
    assert max(found.start for found in shown) > until - timedelta(days=3)
    assert len({str(found["UID"]) for found in shown}) == len(shown)
    assert not [found for found in shown if "freeze" in found.categories and found["TRANSP"] != "TRANSPARENT"]


def test_released_slots_are_cancelled_until_they_are_past_and_then_gone(config):
    standing = reservation(config)
    agenda = agenda_of(config, NOW, released(standing))
    for now in (NOW, *(slot.end for slot in standing.slots)):
        found = by_uid(render(agenda, now).body)
        for slot in standing.slots:
            assert (slot.uid in found) == (slot.end > now)
            if slot.uid in found:
                assert (found[slot.uid]["STATUS"], found[slot.uid]["TRANSP"]) == ("CANCELLED", "TRANSPARENT")


def test_a_slot_that_a_change_gives_up_is_cancelled_while_the_others_stand(config):
    standing = reservation(config)
    kept, given_up = standing.slots[:4], standing.slots[4:]
    found = by_uid(body(config, events_of_week(reservation(config, slots=kept, cancelled=given_up))))
    assert {slot.uid for slot in given_up} == {uid for uid, one in found.items() if one.get("STATUS") == "CANCELLED"}
    assert {slot.uid for slot in kept} == {uid for uid, one in found.items() if one.get("STATUS") == "CONFIRMED"}


def test_sequence_and_last_modified_move_with_every_change_and_the_release(sync, config, now):
    week = Week.parse("2026-W49")
    uid = "2026-12-01-european@calsync"

    def state(at):
        found = by_uid(render(sync.agenda, at).body)[uid]
        return int(found["SEQUENCE"]), found["LAST-MODIFIED"].dt, found["DTSTAMP"].dt

    reserve(sync, ReservationRequest(PAIR, week), now)
    first = state(now)
    later = now + timedelta(minutes=1)
    reserve(sync, ReservationRequest(PAIR, week), later)
    assert state(later) == first, "the very same reservation again changes nothing"
    change(sync, week, lambda _: ReservationRequest(PAIR, week, train="1.46.0-wmf.5"), later)
    second = state(later)
    latest = now + timedelta(minutes=2)
    release(sync, week, latest)
    third = state(latest)
    assert first == (0, now, now)
    assert second == (1, later, later)
    assert third == (2, latest, latest)


def test_a_slot_that_somebody_moved_on_the_calendar_moves_for_subscribers_with_its_sequence_and_last_modified(config):
    standing = reservation(config)
    ((href, text),) = events_of_week(standing).items()
    uid = "2026-12-02-european@calsync"
    calendar = Calendar.from_ical(text)
    moved = next(found for found in calendar.walk("VEVENT") if found.get("X-CALSYNC-SLOT") == "2026-12-02-european")
    stamp = NOW + timedelta(hours=1)
    for name in ("DTSTART", "DTEND"):
        moment = moved[name].dt + timedelta(hours=1)
        del moved[name]
        moved.add(name, moment)
    for name, value in (("SEQUENCE", 1), ("LAST-MODIFIED", stamp), ("DTSTAMP", stamp)):
        del moved[name]
        moved.add(name, value)
    before, after = (by_uid(body(config, {href: one}))[uid] for one in (text, calendar.to_ical()))
    assert after.start == before.start + timedelta(hours=1)
    assert after["LAST-MODIFIED"].dt > before["LAST-MODIFIED"].dt
    assert int(after["SEQUENCE"]) > int(before["SEQUENCE"])


# Filters


def test_window_shows_the_slots_and_recurring_windows_of_that_window_alone(config):
    standing = reservation(config)
    resources = {**events_of_week(standing), "a.ics": MEETING}
    assert set(by_uid(body(config, resources, windows=("european",)))) == {
        slot.uid for slot in standing.slots if slot.window == "european"
    }
    assert set(summaries(body(config, resources, windows=("security",)))) == {"Security window"}
    both = summaries(body(config, resources, windows=("american", "security")))
    assert both["Security window"] == 8
    assert sum(both.values()) == 8 + 3
    assert not summaries(body(config, resources, windows=("no-such-window",)))


def test_conductor_shows_the_slots_that_person_sits_in_and_nothing_else(config):
    spanning, together = reservation(config), reservation(config, "2026-W50", TOGETHER)
    resources = {**events_of_week(spanning), **events_of_week(together), "a.ics": MEETING}
    european = {slot.uid for slot in spanning.slots if slot.window == "european"}
    american = {slot.uid for slot in spanning.slots if slot.window == "american"}
    shared = {slot.uid for slot in together.slots}
    assert set(by_uid(body(config, resources, conductor="conductor-eu"))) == european | shared
    assert set(by_uid(body(config, resources, conductor="conductor-us"))) == american
    assert set(by_uid(body(config, resources, conductor="conductor-uk"))) == shared
    assert not by_uid(body(config, resources, conductor="conductor"))


def test_only_reservations_leaves_out_recurring_windows_freezes_and_other_peoples_events(config):
    standing = reservation(config)
    text = body(config, {**events_of_week(standing), "weekly.ics": weekly()}, only_reservations=True)
    assert set(by_uid(text)) == {slot.uid for slot in standing.slots}
    assert b"VTIMEZONE" not in text


def test_filters_together_narrow_the_feed(config):
    text = body(config, events_of_week(reservation(config)), windows=("american",), conductor="conductor-eu")
    assert not by_uid(text)


def test_alarm_reminds_of_slots_and_recurring_windows_and_of_nothing_else(config):
    standing = reservation(config)
    kept, given_up = standing.slots[:4], standing.slots[4:]
    resources = {**events_of_week(reservation(config, slots=kept, cancelled=given_up)), "a.ics": MEETING}
    reminded = Counter()
    for found in vevents(body(config, resources, alarm=timedelta(minutes=15))):
        for alarm in found.walk("VALARM"):
            assert (alarm["ACTION"], alarm["TRIGGER"].dt, alarm["DESCRIPTION"]) == (
                "DISPLAY",
                timedelta(minutes=-15),
                found["SUMMARY"],
            )
            reminded[str(found["UID"])] += 1
    assert set(reminded.values()) == {1}
    fixed = {uid for uid, found in by_uid(body(config, {})).items() if "freeze" not in found.categories}
    assert set(reminded) == fixed | {slot.uid for slot in kept}
    assert b"VALARM" not in body(config, resources)


# Other people's events


def test_other_peoples_events_stand_as_they_do_on_the_calendar_without_their_alarms(config):
    alarm = ("BEGIN:VALARM", "ACTION:DISPLAY", "DESCRIPTION:now", "TRIGGER:-PT5M", "END:VALARM")
    lines = ("DESCRIPTION:agenda\\, notes", "LOCATION:room 1", "EXDATE;TZID=Europe/Paris:20261208T090000", *alarm)
    ((found),) = [one for one in vevents(body(config, {"w.ics": weekly(*lines)})) if one["UID"] == "weekly@example.org"]
    assert found["DESCRIPTION"] == "agenda, notes"
    assert found["LOCATION"] == "room 1"
    assert found["RRULE"].to_ical() == b"FREQ=WEEKLY"
    assert found["DTSTART"].to_ical() == b"20261117T090000"
    assert found["DTSTART"].params["TZID"] == "Europe/Paris"
    assert not found.walk("VALARM")


SECRETS = (
    "SUMMARY:secret summary",
    "DESCRIPTION:secret description",
    "LOCATION:secret location",
    "ATTENDEE;CN=secret:mailto:secret@example.org",
    "ORGANIZER;CN=secret:mailto:secret@example.org",
    "URL:https://secret.example.org",
    "COMMENT:secret",
    "CONTACT:secret",
    "CATEGORIES:secret",
    "GEO:1.5;2.5",
    "ATTACH:https://secret.example.org/file",
    "CONFERENCE;VALUE=URI:https://secret.example.org/call",
    "X-ALT-DESC;FMTTYPE=text/html:<b>secret</b>",
    "x-secret:secret",
    "BEGIN:VALARM",
    "ACTION:DISPLAY",
    "DESCRIPTION:secret",
    "TRIGGER:-PT5M",
    "END:VALARM",
)


# RFC 5545, section 3.8.1.3: a class that nobody knows is treated as PRIVATE.
@pytest.mark.parametrize("privacy", ["PRIVATE", "CONFIDENTIAL", "private", "X-ONLY-US", "SECRET"])
def test_of_a_private_event_the_feed_says_when_it_is_and_no_more(config, privacy):
    when = ("DTSTART;TZID=Europe/Paris:20261117T090000", "DTEND;TZID=Europe/Paris:20261117T100000", "RRULE:FREQ=WEEKLY")
    override = event(
        "RECURRENCE-ID;TZID=Europe/Paris:20261201T090000",
        "DTSTART;TZID=Europe/Paris:20261202T090000",
        "DTEND;TZID=Europe/Paris:20261202T100000",
        f"CLASS:{privacy}",
        *SECRETS,
    )
    text = body(config, {"private.ics": ics(*when, f"CLASS:{privacy}", *SECRETS, before=override)})
    assert b"secret" not in text.replace(f"CLASS:{privacy}".encode(), b"").lower()
    assert b"VALARM" not in text
    assert b"GEO" not in text
    shown = occurrences(text, NOW, utc(2026, 12, 9))
    assert [one for one in shown if one[2] == "busy"] == [
        (utc(2026, 12, 2, 8), utc(2026, 12, 2, 9), "busy"),
        (utc(2026, 12, 8, 8), utc(2026, 12, 8, 9), "busy"),
    ]


def occurrences(text, start, end):
    """Start, end and summary of what a reader of the feed sees between two instants, by time; floating ones naive."""
    found = recurring_ical_events.of(Calendar.from_ical(text)).between(start, end)
    shown = [(instant(one["DTSTART"].dt), instant(one["DTEND"].dt), str(one["SUMMARY"])) for one in found]
    return sorted((one for one in shown if overlaps(one, start, end)), key=str)


def instant(moment):
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time())
    return moment.astimezone(UTC) if moment.tzinfo else moment


def overlaps(shown, start, end):
    begin, finish = (moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in shown[:2])
    return begin < end and start < finish


def test_a_timezone_that_only_the_event_knows_travels_with_it(config):
    text = body(config, {"a.ics": weekly(tz="Customized Time Zone", before=OFFICE.format("+0345"))})
    shown = [one for one in occurrences(text, NOW, NOW + timedelta(days=7)) if one[2] == "Weekly meeting"]
    assert shown == [(utc(2026, 12, 1, 5, 15), utc(2026, 12, 1, 6, 15), "Weekly meeting")]
    assert all_timezones_are_there(text)


def test_two_different_timezones_of_one_name_do_not_collide(config):
    resources = {
        f"{n}.ics": weekly(uid=f"{n}@example.org", tz="Customized Time Zone", before=OFFICE.format(offset))
        for n, offset in enumerate(("+0345", "-0930", "+0345"))
    }
    text = body(config, resources)
    starts = {
        (found["UID"], instant(found["DTSTART"].dt))
        for found in recurring_ical_events.of(Calendar.from_ical(text)).between(utc(2026, 12, 1), utc(2026, 12, 2))
        if found["SUMMARY"] == "Weekly meeting"
    }
    assert starts == {
        ("0@example.org", utc(2026, 12, 1, 5, 15)),
        ("1@example.org", utc(2026, 12, 1, 18, 30)),
        ("2@example.org", utc(2026, 12, 1, 5, 15)),
    }
    assert text.count(b"BEGIN:VTIMEZONE") == 2
    assert all_timezones_are_there(text)


def all_timezones_are_there(text):
    """Whether each timezone that is used is defined, once."""
    lines = unfolded(text)
    defined = [line.removeprefix("TZID:") for line in lines if line.startswith("TZID:")]
    used = {match[1].strip('"') for line in lines if (match := re.search(r';TZID=("[^"]*"|[^:;]*)', line))}
    return sorted(defined) == sorted(used)


@pytest.mark.parametrize(
    "lines",
    [
        ("DTSTART;TZID=Europe/Paris:20261201T100000", "DURATION:PT1H"),
        ("DTSTART;TZID=Europe/Paris:20261201T100000", "DTEND;TZID=America/Denver:20261201T100000"),
        ("DTSTART;TZID=W. Europe Standard Time:20261201T100000", "DURATION:PT1H"),
        ("DTSTART;TZID=/example.org/20190101_1/Europe/Paris:20261201T100000", "DURATION:PT1H"),
        ("DTSTART;TZID=Etc/UTC:20261201T100000", "RRULE:FREQ=DAILY;COUNT=3", "EXDATE;TZID=Etc/UTC:20261202T100000"),
        ("DTSTART;TZID=Asia/Tokyo:20261201T100000", "RDATE;TZID=Asia/Tokyo:20261202T100000,20261203T100000"),
        (
            "DTSTART;TZID=Europe/Paris:20261201T100000",
            "DURATION:PT1H",
            "RDATE;VALUE=PERIOD;TZID=/example.org/20190101_1/Europe/Paris:20261203T100000/PT1H",
        ),
        ("DTSTART:20261201T100000Z", "DURATION:PT1H", "X-LAST-SHOWN;TZID=Europe/Paris:20261101T100000"),
    ],
    ids=["one", "two", "windows", "prefixed", "utc", "rdate", "period", "extension"],
)
def test_each_timezone_an_event_uses_has_its_definition_in_the_feed(config, lines):
    text = body(config, {"a.ics": ics("SUMMARY:Meeting", *lines)})
    assert "Meeting" in summaries(text)
    assert all_timezones_are_there(text)


def test_generated_timezones_are_rules_and_not_lists_of_dates(config):
    zones = ("Europe/Paris", "America/Los_Angeles", "Africa/Casablanca", "Asia/Gaza", "Asia/Kolkata", "Australia/Lord_Howe")
    text = body(config, {f"{n}.ics": weekly(uid=f"{n}@x", tz=tz) for n, tz in enumerate(zones)})
    assert text.count(b"BEGIN:VTIMEZONE") == len(zones)
    assert not [line for line in unfolded(text) if line.startswith("RDATE")]


@pytest.mark.parametrize(
    "text",
    [
        b"not a calendar",
        ics("SUMMARY:broken", "DTSTART:yesterday"),
        ics("SUMMARY:broken"),
        ics("SUMMARY:broken", "DTSTART;TZID=Mars/Olympus:20261201T100000"),
        ics("SUMMARY:broken", "DTSTART:20261201T100000Z", "DTEND:20261201T090000Z"),
        ics("SUMMARY:broken", "DTSTART:20261201T100000Z", "RRULE:FREQ=SECONDLY"),
        ics("SUMMARY:broken", "DTSTART:20261201T100000Z", "DTEND;VALUE=DATE:20261202"),
    ],
    ids=["garbage", "date", "no start", "timezone", "backwards", "endless", "kinds"],
)
def test_what_cannot_be_read_in_full_stays_out_of_the_feed_and_takes_nothing_else_along(config, text):
    agenda = agenda_of(config, NOW, {"broken.ics": text, "a.ics": MEETING})
    assert set(agenda.defects) == {"broken.ics"}
    assert render(agenda, NOW).body == body(config, {"a.ics": MEETING})


def test_lines_are_at_most_75_octets_and_end_in_crlf(config):
    long = "Café 🚂🚃 – ünïcödé, " * 20
    standing = reservation(config, train=long, override=long)
    escaped = long.replace(",", "\\,")
    text = body(config, {**events_of_week(standing), "a.ics": weekly(f"DESCRIPTION:{escaped}", f"X-NOTE:{long}")})
    *lines, last = text.split(b"\r\n")
    assert last == b""
    assert max(map(len, lines)) <= 75
    assert not [line for line in lines if b"\r" in line or b"\n" in line]
    assert [line.decode() for line in lines], "no character is cut in two"
    assert sum(long.strip() in str(found["DESCRIPTION"]) for found in vevents(text) if "DESCRIPTION" in found) == 7


# The feed against the agenda

SPAN_NOW = utc(2026, 10, 20)
"""With both autumn clock changes within eight weeks."""


reserved_weeks = st.dictionaries(
    st.sampled_from([f"2026-W{n}" for n in range(44, 52)]),
    st.tuples(st.sampled_from([PAIR, Pair(US, EU), TOGETHER]), st.sets(st.integers(0, 5))),
    max_size=4,
)


@pytest.mark.heavy
@settings(max_examples=60)
@given(weeks=reserved_weeks, others=st.lists(foreign(), max_size=5))
def test_who_reads_the_feed_sees_the_calendar(weeks, others):
    evening = {"start": "20:00:00", "end": "21:00:00", "days": ["mon"]}
    config = configured(
        windows={"security": {"title": "Security", "timezone": "Europe/Paris", **evening}},
        freezes=[{"days": ["sat", "sun"], "timezone": "America/Los_Angeles", "reason": "weekend"}],
    )
    start, end = SPAN_NOW, SPAN_NOW + AHEAD
    resources, expected = {}, []
    for week, (pair, numbers) in weeks.items():
        whole = reservation(config, week, pair, SPAN_NOW)
        given_up = tuple(slot for n, slot in enumerate(whole.slots) if n in numbers)
        kept = tuple(slot for n, slot in enumerate(whole.slots) if n not in numbers)
        standing = reservation(config, week, pair, SPAN_NOW, slots=kept, cancelled=given_up, released=not kept)
        resources |= events_of_week(standing)
        expected += [(instant(slot.start), instant(slot.end), summary(standing, slot)) for slot in whole.slots]
    for n, (lines, before, seen) in enumerate(others):
        resources[f"{n}.ics"] = ics(*lines, uid=f"{n}@example.org", before=before.replace("{uid}", f"{n}@example.org"))
        expected += seen
    agenda = agenda_of(config, SPAN_NOW, resources)
    assert not agenda.defects
    text = render(agenda, SPAN_NOW).body
    known = {id(one): one for quarter in agenda.quarters.values() for one in quarter}.values()
    in_agenda = [one for found in known if overlaps(one := (found.start, found.end, found.summary), start, end)]
    fixed = [(one.start, one.end, one.summary) for one in known if one.kind in ("recurring", "freeze")]
    expected = [one for one in [*expected, *fixed] if overlaps(one, start, end)]
    assert Counter(in_agenda) == Counter(expected)
    assert Counter(occurrences(text, start, end)) == Counter(expected)
    assert all_timezones_are_there(text)
    assert max(map(len, text.split(b"\r\n"))) <= 75
