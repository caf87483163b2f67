"""Agendas of given resources, and reserved weeks as resources."""

from dataclasses import replace

from calsync.calendars.base import Changes, Resource
from calsync.core.conductors import Pair
from calsync.core.planning import plan
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.ical.reservation import encode_reservation, reservation_href
from calsync.schedule.agenda import blank
from support.samples import EU, PAIR, configured, person, utc

NOW = utc(2026, 11, 24, 12)
TOGETHER = Pair(EU, person("conductor-uk", "Europe/London"))

OFFICE = """BEGIN:VTIMEZONE
TZID:Customized Time Zone
BEGIN:STANDARD
DTSTART:16010101T000000
TZOFFSETFROM:{0}
TZOFFSETTO:{0}
END:STANDARD
END:VTIMEZONE"""


def agenda_of(config, now, resources):
    """The agenda of these resources, a mapping of hrefs to bytes."""
    found = tuple(Resource(href, f'"{href}"', text) for href, text in resources.items())
    return blank(config, now).after(Changes("1", found, (), complete=True), now)


def reservation(config, week="2026-W49", pair=PAIR, now=NOW, **more):
    planned = plan(config, pair, Week.parse(week), now)
    values = {"cancelled": (), "slots": planned.slots, "modified": now, **more}
    return Reservation(
        week=planned.week, title=config.train.title, pair=pair, primary=planned.primary, backup=planned.backup, **values
    )


def released(standing):
    return events_of_week(replace(standing, slots=(), cancelled=standing.slots, sequence=1, released=True))


def events_of_week(standing):
    """The reservation as resources, as `agenda_of` takes them."""
    return {reservation_href(standing.week): encode_reservation(configured(), standing, "mark")}
