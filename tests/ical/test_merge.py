"""What people do to a reservation's resource: told as it stands, and kept when calsync changes something else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Alarm, Calendar

from calsync.ical.merge import apply_edits
from calsync.ical.recurrence import TimeRange
from calsync.ical.reservation import encode_reservation
from support.samples import configured, decoded, read, reserved, rewritten, utc

CONFIG = configured()
HORIZON = TimeRange(utc(2026, 8, 26), utc(2027, 12, 30))


def occurrences(ics):
    return read(ics, "train-2026-W49.ics", HORIZON).occurrences


def shown(slots):
    return sorted((slot.start.astimezone(UTC), slot.end.astimezone(UTC)) for slot in slots)


def components(ics):
    """The events of a resource by slot, the master under its own name."""
    return {str(event.get("X-CALSYNC-SLOT", "master")): event for event in Calendar.from_ical(ics).events}


def lines(event, name):
    """A property as it is written."""
    values = event.get(name, [])
    written = [value.to_ical() for value in (values if isinstance(values, list) else [values])]
    return [one if isinstance(one, bytes) else one.encode() for one in written]


def edited(ics, edit):
    calendar = Calendar.from_ical(ics)
    edit(calendar)
    return calendar.to_ical()


def changed(former, config=CONFIG, **changes):
    """What stands once calsync changed the reservation that was read from `former`."""
    written = decoded(former).reservation
    return rewritten(config, replace(written, sequence=written.sequence + 1, **changes), "another", former)


def test_slots_outside_the_horizon_count_as_they_were_written():
    reservation = reserved(week="2025-W49")
    assert apply_edits(reservation, (), HORIZON) == (reservation, ())


def test_a_slot_that_somebody_moved_is_reported_and_counted_where_it_is():
    reservation = reserved()
    ics = encode_reservation(CONFIG, reservation, "m").replace(
        b"DTSTART;TZID=Europe/Paris:20261202T100000", b"DTSTART;TZID=Europe/Paris:20261202T093000"
    )
    assert ics.count(b"20261202T093000") == 1
    standing, changes = apply_edits(reservation, occurrences(ics), HORIZON)
    assert changes == ("2026-12-02-european was moved to Wed 02 Dec 09:30–12:00 Europe/Paris.",)
    assert (utc(2026, 12, 2, 8, 30), utc(2026, 12, 2, 11)) in shown(standing.slots)
    assert len(standing.slots) == 6


@pytest.mark.parametrize("how", ["cancelled", "excluded", "cancelled as a whole"])
def test_a_slot_that_somebody_removed_is_reported(how):
    reservation = reserved()
    calendar = Calendar.from_ical(encode_reservation(CONFIG, reservation, "m"))
    master = next(event for event in calendar.events if "RRULE" in event)
    third = next(event for event in calendar.events if event.get("X-CALSYNC-SLOT") == "2026-12-02-european")
    if how == "excluded":
        master.add("EXDATE", third["RECURRENCE-ID"].dt)
        calendar.subcomponents.remove(third)
    for event in calendar.events:
        if how == "cancelled as a whole" or (how == "cancelled" and event is third):
            event["STATUS"] = "CANCELLED"
    standing, changes = apply_edits(reservation, occurrences(calendar.to_ical()), HORIZON)
    assert "2026-12-02-european was removed from the calendar." in changes
    assert len(standing.slots) == (0 if how == "cancelled as a whole" else 5)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(str.strip)
SLOTS = ["master", *(slot.id for slot in reserved().slots)]
edits = st.one_of(
    st.tuples(
        st.sampled_from(["SUMMARY", "LOCATION", "COLOR", "COMMENT", "CONTACT", "RESOURCES", "X-OTHER", "X-MOZ-LASTACK"]),
        texts.map(lambda text: [text]),
    ),
    st.tuples(st.just("CATEGORIES"), st.lists(texts, min_size=1, max_size=4).map(lambda names: [names])),
    st.tuples(st.just("COMMENT"), st.lists(texts, min_size=2, max_size=3)),
    st.tuples(st.just("PRIORITY"), st.integers(0, 9).map(lambda priority: [priority])),
    st.tuples(st.just("TRANSP"), st.just(["TRANSPARENT"])),
    st.tuples(st.just("CLASS"), st.sampled_from([["PRIVATE"], ["CONFIDENTIAL"]])),
    st.tuples(st.just("GEO"), st.just([(48.85, 2.35)])),
    st.tuples(st.sampled_from(["SUMMARY", "CATEGORIES", "TRANSP"]), st.just([])),
)


@pytest.mark.heavy
@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(SLOTS), edits), min_size=1, max_size=6), st.integers(0, 3))
def test_whatever_a_person_adds_changes_or_removes_survives_an_unrelated_change(done, alarms):
    def edit(calendar):
        events = {str(event.get("X-CALSYNC-SLOT", "master")): event for event in calendar.events}
        for slot, (name, values) in done:
            events[slot].pop(name, None)
            for value in values:
                events[slot].add(name, value)
        for _ in range(alarms):
            alarm = Alarm()
            alarm.add("ACTION", "DISPLAY")
            alarm.add("TRIGGER", timedelta(minutes=-5))
            events[done[0][0]].add_component(alarm)

    theirs = edited(encode_reservation(CONFIG, reserved(), "m"), edit)
    ours = changed(changed(theirs, override="agreed"), ticket="T400002")  # what was kept once is kept again
    before, after = components(theirs), components(ours)
    assert before.keys() == after.keys()
    for slot, event in after.items():
        for name in {*event, *before[slot]} - {"SEQUENCE", "DESCRIPTION", "X-CALSYNC-RECORD", "X-CALSYNC-MARK"}:
            assert lines(event, name) == lines(before[slot], name), (slot, name)
        assert [alarm.to_ical() for alarm in event.subcomponents] == [
            alarm.to_ical() for alarm in before[slot].subcomponents
        ]
        assert "T400002" in event["DESCRIPTION"]
    assert decoded(ours).reservation.ticket == "T400002"


def test_what_calsync_itself_changes_is_written_over_what_a_person_wrote_there():
    theirs = edited(
        encode_reservation(CONFIG, reserved(), "m"), lambda calendar: calendar.events[1].update({"SUMMARY": "Mine"})
    )
    ours = components(changed(theirs, train="1.46.0-wmf.6"))
    assert all("1.46.0-wmf.6" in event["SUMMARY"] for event in ours.values())


def test_what_stands_on_the_calendar_object_and_the_timezones_that_it_needs_are_kept():
    def edit(calendar):
        calendar.add("X-WR-CALNAME", "Deployments")
        zone = Calendar.from_ical(
            b"BEGIN:VCALENDAR\r\nBEGIN:VTIMEZONE\r\nTZID:Ana\r\nBEGIN:STANDARD\r\nDTSTART:19700101T000000\r\n"
            b"TZOFFSETFROM:+0300\r\nTZOFFSETTO:+0300\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nEND:VCALENDAR\r\n"
        ).walk("VTIMEZONE")[0]
        calendar.subcomponents.insert(0, zone)
        calendar.events[1].add("X-SEEN", datetime(2026, 12, 1, 9), parameters={"TZID": "Ana"})

    ours = Calendar.from_ical(changed(edited(encode_reservation(CONFIG, reserved(), "m"), edit), ticket="T400002"))
    assert ours["X-WR-CALNAME"] == "Deployments"
    assert "Ana" in {str(zone["TZID"]) for zone in ours.walk("VTIMEZONE")}
    assert ours["PRODID"] == Calendar.from_ical(encode_reservation(CONFIG, reserved(), "m"))["PRODID"]


@pytest.mark.parametrize("invite", [False, True])
def test_people_who_were_invited_stay_and_no_server_writes_to_them_unless_it_may(invite):
    def edit(calendar):
        for name in ("ORGANIZER", "ATTENDEE", "ATTENDEE"):
            calendar.events[1].add(name, "mailto:guest@example.org", parameters={"PARTSTAT": "ACCEPTED"})

    config = configured(calendar={"invite": invite, "organizer": "train@example.org"})
    theirs = edited(encode_reservation(CONFIG, reserved(), "m"), edit)
    event = components(changed(theirs, configured(), ticket="T400002"))[reserved().slots[0].id]
    assert len(event["ATTENDEE"]) == 2
    for value in (*event["ATTENDEE"], event["ORGANIZER"]):
        assert value == "mailto:guest@example.org"
        assert value.params["SCHEDULE-AGENT"] == "CLIENT"
        assert value.params["PARTSTAT"] == "ACCEPTED"
    sent = edited(encode_reservation(config, reserved(), "m"), edit)
    kept = components(changed(sent, config, ticket="T400002"))[reserved().slots[0].id]
    assert ("SCHEDULE-AGENT" in kept["ATTENDEE"][0].params) == (not invite)


def test_what_cannot_be_read_is_replaced_by_what_calsync_writes():
    assert encode_reservation(CONFIG, reserved(), "m", b"no calendar") == encode_reservation(CONFIG, reserved(), "m")


def test_a_slot_that_somebody_deleted_from_the_resource_stays_deleted_through_a_change():
    def edit(calendar):
        event = next(event for event in calendar.events if event.get("X-CALSYNC-SLOT") == "2026-12-02-european")
        event["STATUS"] = "CANCELLED"
        event.add("COMMENT", "the room is taken")

    theirs = edited(encode_reservation(CONFIG, reserved(), "m"), edit)
    standing, _ = apply_edits(decoded(theirs).reservation, occurrences(theirs), HORIZON)
    ours = rewritten(CONFIG, replace(standing, ticket="T400002"), "n", theirs)
    found = components(ours)["2026-12-02-european"]
    assert (found["STATUS"], found["COMMENT"]) == ("CANCELLED", "the room is taken")
    assert len([one for one in occurrences(ours) if one.busy]) == 5
