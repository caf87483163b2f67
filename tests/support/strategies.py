"""Reservations and events of others, drawn at random."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytz
from hypothesis import strategies as st

from calsync.core.conductors import Conductor, Pair
from calsync.core.planning import Seat
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.core.windows import Window
from calsync.core.working_hours import Hours
from support.samples import event, utc

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
maybe = st.none() | text
zones = st.sampled_from(sorted(pytz.common_timezones))
clocks = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))


@st.composite
def conductors(draw):
    start, end = draw(clocks), draw(clocks)
    hours = Hours(start, end) if start != end else Hours.parse("00:00-24:00")
    return Conductor(draw(text), draw(zones), hours, draw(st.none() | st.sampled_from(["european", "american"])))


@st.composite
def reservations(draw):
    week = Week.containing(draw(st.dates(date(2024, 1, 1), date(2036, 12, 28))))
    slots = []
    for name in draw(st.lists(st.sampled_from(["european", "american", "third"]), min_size=1, max_size=3, unique=True)):
        window = Window(name, name, draw(zones), draw(clocks), draw(clocks), ("tue",))
        slots += [
            window.on(week.day(day), draw(st.sampled_from(["primary", "backup"])), draw(text))
            for day in ("tue", "wed", "thu")
        ]
    slots = sorted((slot for slot in slots if slot.end > slot.start), key=lambda slot: (slot.start, slot.window))
    given_up = draw(st.integers(0, max(len(slots) - 1, 0)))
    return Reservation(
        week=week,
        title=draw(text),
        pair=Pair(draw(conductors()), draw(conductors())),
        primary=Seat("european", draw(text)),
        backup=Seat(draw(st.sampled_from(["european", "american"])), draw(text)),
        slots=tuple(slots[given_up:]),
        cancelled=tuple(slots[:given_up]),
        modified=draw(st.datetimes(utc(2024, 1, 1).replace(tzinfo=None), utc(2036, 1, 1).replace(tzinfo=None))).replace(
            tzinfo=UTC, microsecond=0
        ),
        train=draw(maybe),
        ticket=draw(maybe),
        override=draw(maybe),
        author=draw(maybe),
        sequence=draw(st.integers(0, 10_000)),
        released=draw(st.booleans()),
    )


some = reservations().filter(lambda reservation: reservation.slots)


ZONES = ("Europe/Paris", "America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago")

moments = st.builds(
    datetime.combine,
    st.dates(date(2026, 9, 1), date(2026, 12, 20)),
    st.builds(time, st.integers(4, 20), st.sampled_from([0, 15, 30])),  # clear of clock changes
)
titles = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60).map(
    lambda text: f"<{text}>"
)


@st.composite
def foreign(draw):
    """An event's lines, and the occurrences it has by the arithmetic of this test."""
    start, minutes, title = draw(moments), draw(st.integers(5, 180)), draw(titles)
    tz = draw(st.sampled_from([*ZONES, "UTC", "floating", "day"]))
    length = timedelta(days=draw(st.integers(1, 3))) if tz == "day" else timedelta(minutes=minutes)
    if tz == "day":
        start = datetime.combine(start.date(), time())
    step = draw(st.sampled_from([None, 1, 2, 7, 14]))
    count = draw(st.integers(1, 40)) if step else 1
    starts = [start + n * timedelta(days=step or 1) for n in range(count)]
    dropped = draw(st.sets(st.sampled_from(starts), max_size=3)) if step else set()
    moved = draw(st.dictionaries(st.sampled_from(starts), moments, max_size=2)) if step and tz != "day" else {}

    def line(name, moment):
        if tz == "day":
            return f"{name};VALUE=DATE:{moment:%Y%m%d}"
        zone = {"UTC": "", "floating": ""}.get(tz, f";TZID={tz}")
        return f"{name}{zone}:{moment:%Y%m%dT%H%M%S}" + ("Z" if tz == "UTC" else "")

    def seen(moment):
        if tz in ("day", "floating"):
            return moment, moment + length
        begin = moment.replace(tzinfo=ZoneInfo(tz)).astimezone(UTC)
        return begin, begin + length

    escaped = title.replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;")
    lines = [f"SUMMARY:{escaped}", line("DTSTART", start), line("DTEND", start + length)]
    if step:
        lines.append(f"RRULE:FREQ={'WEEKLY' if step % 7 == 0 else 'DAILY'};INTERVAL={step // 7 or step};COUNT={count}")
    lines += [line("EXDATE", moment) for moment in sorted(dropped - moved.keys())]
    overrides = [
        event("SUMMARY:moved", line("RECURRENCE-ID", moment), line("DTSTART", to), line("DTEND", to + length), uid="{uid}")
        for moment, to in moved.items()
    ]
    expected = [(*seen(moment), title) for moment in starts if moment not in dropped | moved.keys()]
    expected += [(*seen(to), "moved") for to in moved.values()]
    return lines, "\n".join(overrides), expected
