from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from calsync.booking.reservations import reserve
from calsync.calendars.base import Changes, Resource
from calsync.core.conductors import Pair, conductor
from calsync.core.conflict import blocking
from calsync.core.planning import plan
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.core.windows import Slot, Window
from calsync.core.working_hours import Hours
from calsync.ical.reservation import encode_reservation, reservation_href
from calsync.schedule.agenda import blank
from calsync.schedule.availability import find_cover
from calsync.schedule.check import ReservationRequest
from calsync.schedule.conflicts import alternatives, check
from calsync.schedule.sync import CalendarSync
from support.samples import EU, PAIR, US, configured, ics, person, utc

NOW = utc(2026, 11, 24, 12)
WEEK = Week(2026, 49)


def agenda_of(config, *resources, now=NOW):
    changed = tuple(
        Resource(f"{n}.ics" if isinstance(r, bytes) else r[0], "1", r if isinstance(r, bytes) else r[1])
        for n, r in enumerate(resources)
    )
    return blank(config, now).after(Changes("t", changed, (), complete=True), now)


def span(start, end, *more, uid="other"):
    return ics(f"DTSTART:{start:%Y%m%dT%H%M%SZ}", f"DTEND:{end:%Y%m%dT%H%M%SZ}", "SUMMARY:other", *more, uid=uid)


def found(config, *resources, pair=PAIR, week=WEEK, own="", people=None):
    planned = plan(config, pair, week, utc(2020, 1, 1))
    return check(agenda_of(config, *resources), planned.slots, people or (lambda slot: ()), own=own)


def of_slot(planned):
    return planned.conductors


def kinds(conflicts):
    return {conflict.kind for conflict in conflicts}


TUESDAY = utc(2026, 12, 1, 9), utc(2026, 12, 1, 11)  # the first slot
moments = st.integers(0, 7 * 24 * 4).map(lambda n: utc(2026, 11, 29) + n * timedelta(minutes=15))
spans = st.tuples(moments, st.integers(0, 12).map(lambda n: n * timedelta(minutes=15))).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)


@settings(max_examples=60)
@given(st.lists(spans, max_size=8), st.integers(0, 4).map(lambda n: f"{15 * n}m"))
def test_a_slot_overlaps_exactly_the_events_that_share_a_moment_with_it_and_its_buffer(others, buffer):
    config = configured(conflicts={"buffer": buffer})
    resources = [span(*times, uid=f"e{n}") for n, times in enumerate(others)]
    conflicts = found(config, *resources)
    distance = config.conflicts.buffer
    expected = {
        (slot.id, f"e{n}")
        for slot in plan(config, PAIR, WEEK, NOW).slots
        for n, (start, end) in enumerate(others)
        if start < end and max(start, slot.start - distance) < min(end, slot.end + distance)
    }
    assert {(conflict.slot, conflict.event.uid) for conflict in conflicts} == expected
    assert kinds(conflicts) <= {"overlap"}


def test_touching_and_lengthless_events_are_no_overlap():
    start, end = TUESDAY
    hour = timedelta(hours=1)
    resources = [
        span(start - hour, start),
        span(end, end + hour),
        span(start + hour, start + hour),
        ics(f"DTSTART:{start:%Y%m%dT%H%M%SZ}"),
    ]
    assert found(configured(), *resources) == ()


@pytest.mark.parametrize(
    ("edge", "near"), [(timedelta(minutes=20), "is too close to"), (timedelta(minutes=-20), "overlaps")]
)
def test_the_message_says_whether_an_event_overlaps_or_is_too_close(edge, near):
    (conflict,) = found(configured(conflicts={"buffer": "30m"}), span(TUESDAY[1] + edge, TUESDAY[1] + timedelta(hours=1)))
    assert near in conflict.message
    assert "Tue 1 Dec 10:00–12:00 Europe/Paris (european)" in conflict.message
    assert (conflict.event.uid, conflict.event.summary, conflict.blocking) == ("other", "other", True)


def test_an_event_outside_the_buffer_is_no_conflict():
    config = configured(conflicts={"buffer": "30m"})
    assert not found(config, span(TUESDAY[1] + timedelta(minutes=30), TUESDAY[1] + timedelta(hours=1)))


def reservation(pair, week=WEEK):
    planned = plan(configured(), pair, week, utc(2020, 1, 1))
    return Reservation(week, "Train", pair, planned.primary, planned.backup, planned.slots, NOW)


def another_weeks(pair, slot_of=WEEK, week=None):
    """A reservation of another week whose slots somebody has moved into this one."""
    week = week or Week(2026, 50)
    moved = replace(reservation(pair, slot_of), week=week)
    return reservation_href(week), encode_reservation(configured(), moved, "m")


STRANGERS = Pair(person("p", "Europe/Paris"), person("q", "America/Denver"))
CASES: dict[str, tuple[dict[str, Any], list[bytes]]] = {
    "overlap": ({}, [span(*TUESDAY)]),
    "freeze": (
        {
            "freezes": [
                {"start": date(2026, 12, 1), "end": date(2026, 12, 1), "timezone": "Europe/Paris", "reason": "holiday"}
            ]
        },
        [],
    ),
    "reserved": ({}, [another_weeks(STRANGERS)]),
    "busy": ({}, [another_weeks(PAIR)]),
    "unknown": ({}, [ics("DTSTART:20261201T100000Z", "RRULE:FREQ=SECONDLY")]),
    "hours": ({}, []),
    "dst": (
        {"windows": {"european": {"title": "E", "timezone": "America/Los_Angeles", "start": time(1), "end": time(3)}}},
        [],
    ),
}


def case(kind, conflicts=None):
    changes, resources = CASES[kind]
    config = configured(**changes, **({"conflicts": conflicts} if conflicts else {}))
    who = person("conductor-eu", "Europe/Paris", "14:00-15:00") if kind == "hours" else EU
    week = Week(2026, 44) if kind == "dst" else WEEK
    planned = plan(config, Pair(who, US), week, utc(2020, 1, 1))
    return [c for c in check(agenda_of(config, *resources), planned.slots, of_slot(planned)) if c.kind == kind]


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_of_conflict_arises_and_blocks_or_warns_as_shipped(kind):
    conflicts = case(kind)
    assert conflicts
    assert {conflict.blocking for conflict in conflicts} == {kind not in ("hours", "dst")}
    assert all(conflict.message.endswith(".") and conflict.slot for conflict in conflicts)


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "reserved"])
def test_every_kind_but_reserved_can_be_told_to_block_or_to_warn(kind):
    others = [other for other in CASES if other != kind]
    assert not blocking(case(kind, {"block": [o for o in others if o not in ("hours", "dst")], "warn": [kind]}))
    assert len(blocking(case(kind, {"block": [kind], "warn": []}))) == len(case(kind))


def test_a_resource_that_cannot_be_placed_warns_about_every_slot():
    (conflict,) = found(configured(), b"garbage")
    assert (conflict.kind, conflict.slot, conflict.blocking) == ("unknown", None, False)
    assert "0.ics" in conflict.message


def test_ones_own_reservation_does_not_stand_in_its_own_way():
    own = another_weeks(PAIR, week=WEEK)
    assert found(configured(), own, own=own[0]) == ()
    assert kinds(found(configured(), own)) == {"reserved"}


@pytest.mark.parametrize("line", ["STATUS:CANCELLED", "TRANSP:TRANSPARENT"])
def test_what_makes_nobody_busy_is_no_conflict(line):
    assert found(configured(), span(*TUESDAY, line)) == ()


@pytest.mark.parametrize(("ignored", "conflicts"), [(["Services"], 0), (["train"], 1), ([], 1)])
def test_ignored_categories_may_be_overlapped_whatever_their_case(ignored, conflicts):
    config = configured(conflicts={"ignore_categories": ignored})
    assert len(found(config, span(*TUESDAY, "CATEGORIES:x,sERVICES"))) == conflicts


def test_ignored_categories_hold_for_recurring_windows_and_never_for_a_reserved_slot():
    backport = {
        "title": "S",
        "timezone": "Europe/Paris",
        "start": time(11),
        "end": time(13),
        "days": ["tue"],
        "category": "services",
    }
    windows = {"backport": backport}
    assert kinds(found(configured(windows=windows))) == {"overlap"}
    assert found(configured(windows=windows, conflicts={"ignore_categories": ["services"]})) == ()
    assert kinds(found(configured(conflicts={"ignore_categories": ["train"]}), another_weeks(STRANGERS))) == {"reserved"}


@pytest.mark.parametrize(
    ("scope", "train", "conflicts"), [("all", True, 1), ("all", False, 1), ("train", True, 1), ("train", False, 0)]
)
def test_a_freeze_of_the_train_alone_lets_others_deploy(scope, train, conflicts):
    config = configured(
        freezes=[
            {
                "start": date(2026, 12, 1),
                "end": date(2026, 12, 1),
                "timezone": "Europe/Paris",
                "reason": "r",
                "scope": scope,
            }
        ]
    )
    slot = plan(config, PAIR, WEEK, NOW).slots[0]
    assert len(check(agenda_of(config), [slot], train=train)) == conflicts


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        ({"start": date(2026, 12, 2), "end": date(2026, 12, 2)}, {"2026-12-02-european", "2026-12-02-american"}),
        ({"start": datetime(2026, 12, 2, 12), "end": datetime(2026, 12, 3, 10)}, {"2026-12-02-american"}),
        ({"days": ["thu", "fri"]}, {"2026-12-03-european", "2026-12-03-american"}),
    ],
)
def test_a_freeze_lasts_for_its_dates_both_included_its_times_or_its_days(freeze, frozen):
    config = configured(freezes=[{**freeze, "timezone": "Europe/Paris", "reason": "r"}])
    assert {conflict.slot for conflict in found(config)} == frozen


@pytest.mark.parametrize(
    ("lines", "slots"),
    [
        (["DTSTART;VALUE=DATE:20261201"], {"2026-12-01-european", "2026-12-01-american"}),
        (["DTSTART:20261201T113000", "DURATION:PT15M"], {"2026-12-01-european", "2026-12-01-american"}),
        (["DTSTART:20261201T120000", "DURATION:PT15M"], {"2026-12-01-american"}),
    ],
)
def test_all_day_and_floating_events_are_seen_on_the_clock_of_the_window(lines, slots):
    assert {conflict.slot for conflict in found(configured(), ics(*lines))} == slots


@pytest.mark.parametrize(
    ("day", "start", "end", "said"),
    [
        (date(2027, 3, 28), time(2, 30), time(4), "is skipped by the clocks"),
        (date(2026, 10, 25), time(2, 30), time(4), "comes twice on the clocks"),
        (date(2027, 3, 28), time(1), time(4), "change during"),
    ],
)
def test_a_clock_change_in_a_slot_is_said(day, start, end, said):
    config = configured(
        windows={"european": {"title": "E", "timezone": "Europe/Paris", "start": start, "end": end}},
        train={"stages": {"sun": "group0"}},
    )
    planned = plan(config, Pair(replace(EU, window="european"), US), Week.containing(day), utc(2020, 1, 1))
    messages = [c.message for c in check(agenda_of(config), planned.slots) if c.kind == "dst"]
    assert any(said in message for message in messages)


def on_sundays(start, end, week, *people, **conflicts):
    """The plan of a train on Sundays in Paris, and what stands against it."""
    config = configured(
        windows={"european": {"title": "E", "timezone": "Europe/Paris", "start": start, "end": end}},
        train={"stages": {"sun": "group0"}},
        **conflicts,
    )
    planned = plan(config, Pair(*people), Week.parse(week), utc(2020, 1, 1))
    return config, planned, check(agenda_of(config), planned.slots, of_slot(planned))


PARIS = [
    person(name, zone, "sun 00:00-08:00", "european") for name, zone in (("ana", "Europe/Paris"), ("ben", "Europe/Berlin"))
]


@pytest.mark.parametrize("end", [time(3, 30), time(3, 15), time(3)])
@pytest.mark.parametrize("conflicts", [{}, {"conflicts": {"block": ["overlap"], "warn": ["dst"]}}])
def test_a_slot_that_the_clocks_leave_no_length_always_blocks_and_is_moved_nowhere(end, conflicts):
    config, planned, found = on_sundays(time(2, 30), end, "2027-W12", *PARIS, **conflicts)
    (slot,) = planned.slots
    assert slot.start == slot.end
    (conflict,) = blocking(found)
    assert (conflict.kind, conflict.slot) == ("dst", "2027-03-28-european")
    assert "has no length" in conflict.message
    places = alternatives(agenda_of(config), planned, found, of_slot(planned), now=utc(2020, 1, 1))
    assert [place.window for place in places if place.start == place.end] == []
    longer = on_sundays(time(2, 30), time(4), "2027-W12", *PARIS)[2]
    assert blocking(longer) == ()


@pytest.mark.parametrize("week", ["2027-W12", "2027-W13"])
def test_clocks_that_change_together_are_not_said_to_change_apart(week):
    assert not any("together" in conflict.message for conflict in on_sundays(time(2, 30), time(4), week, *PARIS)[2])


def test_who_has_other_clocks_is_told_in_the_week_after_a_skipped_start_too():
    ben = person("ben", "America/Denver", window="european")
    (conflict,) = [c for c in on_sundays(time(2, 30), time(4), "2027-W13", PARIS[0], ben)[2] if "together" in c.message]
    assert (conflict.kind, conflict.slot) == ("dst", "2027-04-04-european")
    assert "starts at 18:30 for ben, not at 19:30" in conflict.message


def test_somebody_for_whom_the_window_moves_by_an_hour_is_warned_in_that_week_alone():
    moved = {}
    for week in ("2026-W43", "2026-W44", "2026-W45", "2026-W46"):
        config = configured()
        planned = plan(config, Pair(EU, replace(EU, name="x", window="american")), Week.parse(week), utc(2020, 1, 1))
        moved[week] = {c.slot[11:] for c in check(agenda_of(config), planned.slots, of_slot(planned)) if c.kind == "dst"}
    assert moved == {"2026-W43": set(), "2026-W44": {"american"}, "2026-W45": {"american"}, "2026-W46": set()}


def test_sitting_outside_ones_hours_is_said_with_ones_own_clock():
    first = case("hours")[0]
    assert first.slot == "2026-12-01-european"
    assert "Tue 1 Dec 10:00–12:00 for conductor-eu, outside 14:00-15:00 Europe/Paris" in first.message


@settings(max_examples=40)
@given(
    st.lists(spans, min_size=1, max_size=10), st.sampled_from([PAIR, Pair(US, EU), Pair(EU, person("l", "Africa/Lagos"))])
)
def test_every_alternative_is_free_in_working_hours_and_beside_the_other_slots(others, pair):
    config = configured(conflicts={"buffer": "15m"})
    agenda = agenda_of(config, *(span(*times, uid=f"e{n}") for n, times in enumerate(others)))
    planned = plan(config, pair, WEEK, NOW)
    people = of_slot(planned)
    conflicts = check(agenda, planned.slots, people)
    slots = {slot.id: slot for slot in planned.slots}
    for place in alternatives(agenda, planned, conflicts, people, now=NOW):
        assert place.instead_of in {conflict.slot for conflict in blocking(conflicts)}
        assert place.start > NOW
        slot = replace(slots[place.instead_of], window=place.window, start=place.start, end=place.end)
        assert blocking(check(agenda, [slot])) == ()
        assert all(
            place.end <= other.start or other.end <= place.start for other in planned.slots if other.id != place.instead_of
        )
        if place.window == slots[place.instead_of].window:
            assert place.end - place.start == slots[place.instead_of].end - slots[place.instead_of].start
            assert all(who.works(place.start, place.end) for who in people(slots[place.instead_of]))


def test_the_nearest_free_places_around_a_blocked_slot_are_offered():
    config = configured()
    agenda = agenda_of(config, span(utc(2026, 12, 1, 9, 30), utc(2026, 12, 1, 10)))
    planned = plan(config, Pair(EU, person("l", "Africa/Lagos")), WEEK, NOW)
    places = alternatives(agenda, planned, check(agenda, planned.slots), of_slot(planned), now=NOW)
    assert [(place.window, place.start.isoformat()) for place in places] == [
        ("european", "2026-12-01T11:00:00+01:00"),
        ("american", "2026-12-01T11:00:00-08:00"),
    ]


def test_nothing_is_offered_where_nothing_is_free():
    config = configured()
    agenda = agenda_of(config, span(utc(2026, 11, 30), utc(2026, 12, 5)))
    planned = plan(config, PAIR, WEEK, NOW)
    assert alternatives(agenda, planned, check(agenda, planned.slots), of_slot(planned), now=NOW) == ()


def test_any_span_can_be_checked_and_not_the_trains_alone():
    config = configured()
    paris = pytz.timezone("Europe/Paris")
    slot = Slot("anything", date(2026, 12, 1), TUESDAY[0].astimezone(paris), TUESDAY[1].astimezone(paris))
    assert kinds(check(agenda_of(config, span(*TUESDAY)), [slot])) == {"overlap"}
    assert Window("anything", "A", "Europe/Paris", time(10), time(12), ("tue",)).on(date(2026, 12, 1)).start == slot.start


def test_a_train_day_on_somebodys_day_off_is_a_conflict_of_hours_and_moves_them_nowhere(calendar, now):
    team = [
        {"name": "ana", "timezone": "Europe/Paris", "days": ["mon", "wed", "thu", "fri"]},
        {"name": "ben", "timezone": "America/Denver"},
    ]
    config = configured(conductors=team)
    sync = CalendarSync(calendar, config, now)
    pair = Pair(conductor(config, "ana"), conductor(config, "ben"))
    outcome = reserve(sync, ReservationRequest(pair, Week(2026, 49)), now)
    (conflict,) = [found for found in outcome.warnings if found.kind == "hours"]
    assert outcome.reservation.primary.window == "european"
    assert outcome.reservation.primary.reason == "10:00–12:00 lies in 09:00-18:00 Europe/Paris"
    assert (conflict.slot, conflict.blocking) == ("2026-12-01-european", False)
    assert "for ana, on a day off, outside mon,wed-fri 09:00-18:00 Europe/Paris" in conflict.message
    # The days are on the calendar, and hours given for once are on the same days.
    assert sync.refresh(now).reservation(Week(2026, 49)).reservation.pair == pair
    assert conductor(config, "ana", hours=Hours.parse("10:00-16:00")).hours == Hours.parse("mon,wed-fri 10:00-16:00")


def test_nobody_covers_on_their_day_off_but_the_partner_who_is_told_of_it(calendar, now):
    team = [
        {"name": "ana", "timezone": "Europe/Paris"},
        {"name": "ben", "timezone": "Europe/Berlin", "days": ["wed"]},
        {"name": "cem", "timezone": "Europe/Berlin", "days": ["wed", "thu"]},
    ]
    config = configured(conductors=team)
    agenda = CalendarSync(calendar, config, now).refresh(now)
    pair = Pair(conductor(config, "ana"), conductor(config, "ben"))
    for slot in plan(config, pair, Week(2026, 49), now).slots:
        found = find_cover(agenda, slot, pair.primary, None)
        free = {"group0": [], "group1": ["ben", "cem"], "group2": ["cem"]}[slot.stage]
        assert [one.name for one in found] == free
    (partner,) = find_cover(agenda, plan(config, pair, Week(2026, 49), now).slots[0], pair.primary, pair)
    assert partner.reason.endswith("10:00–12:00 is on a day off, outside wed 09:00-18:00 Europe/Berlin")
