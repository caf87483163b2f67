"""A calendar to which random things are done."""

import contextlib
from datetime import timedelta

from hypothesis import strategies as st

from calsync.booking import absences
from calsync.booking.reservations import release, reserve
from calsync.calendars.sql import SqlCalendar
from calsync.core.conductors import Pair
from calsync.core.conflict import ReservedByAnother
from calsync.core.errors import Invalid, NotReserved
from calsync.core.weeks import Week
from calsync.ical.occurrences import Occurrence
from calsync.schedule.check import ReservationRequest
from calsync.schedule.diary import Busy
from calsync.schedule.feed import Filters
from calsync.schedule.sync import CalendarSync
from support.samples import PAIR, US, configured, ics, person, utc
from support.strategies import foreign

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
