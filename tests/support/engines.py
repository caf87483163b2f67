"""A fresh calendar on each engine, and the person who has the same calendar open in a client of theirs."""

import time
from contextlib import ExitStack
from urllib.parse import quote

import pytest
from icalendar import Calendar
from pydantic import SecretStr

from calsync.calendars.caldav.calendar import CalDavCalendar
from calsync.calendars.open import open_calendar
from support import servers
from support.faults import Proxy
from support.samples import configured

CALDAV = ("radicale", "xandikos", "unruly")
SERVERS = ("postgresql", *CALDAV)
ENGINES = ("sqlite", *SERVERS)
IN_THE_FAST_LANE = ("sqlite", "unruly")
SETTLING = 2  # seconds that pass between writers who are tried against each other on the unruly server


def each_engine(*names):
    """The engines as parameters; the fast lane has the embedded calendar and the worst CalDAV server alone."""
    return [name if name in IN_THE_FAST_LANE else pytest.param(name, marks=pytest.mark.heavy) for name in names]


def settle(_seconds):
    time.sleep(SETTLING)


def at_once(_seconds):
    """Nobody else writes, so nothing needs to settle."""


class Running:
    """The calendar servers of this test process; each starts when it is first asked for, and ends with the stack."""

    def __init__(self, stack, folder):
        self._stack, self._folder, self._found = stack, folder, {}

    def server(self, engine):
        if engine not in self._found:
            start = servers.postgres() if engine == "postgresql" else getattr(servers, engine)(self._folder(engine))
            self._found[engine] = self._stack.enter_context(start)
        return self._found[engine]


class Place:
    """A fresh calendar on `engine`, at `url`; with `server` where it has one. All that it opens it closes at its end."""

    def __init__(self, engine, running, folder):
        self.engine, self.folder, self.stack = engine, folder, ExitStack()
        self.server = None if engine == "sqlite" else running.server(engine)
        self.username = self.password = None
        if engine == "sqlite":
            self.url = f"sqlite:///{folder}/deployments.db"
        elif engine == "postgresql":
            self.username, self.password = servers.USERNAME, servers.PASSWORD
            self.url = self.server.new_database().replace(f"{self.username}:{self.password}@", "")
        else:
            self.url, self.username, self.password = self.server.new_calendar(), self.server.username, self.server.password
        if engine == "unruly":
            self.control("switch", races=False)  # which takes a while; where it matters a test turns it on again

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.stack.close()
        if self.engine == "unruly":
            with self.server.client() as client:
                client.post("/-/reset").raise_for_status()

    def config(self, url=None, **changes):
        """The configuration of a calsync on this calendar; `changes` are sections, as for `configured`."""
        environ = {"CALSYNC_CALENDAR_URL": url or self.url}
        if self.username is not None:
            environ |= {"CALSYNC_CALENDAR_USERNAME": self.username, "CALSYNC_CALENDAR_PASSWORD": self.password}
        return configured(environ, **changes).model_copy(update={"folder": self.folder})

    def open(self, url=None, *, pause=at_once, timeout=10, password=None):
        """An engine of its own, as another replica has."""
        config = self.config(url, calendar={"timeout": f"{timeout}s"})
        if password is not None:
            config = config.model_copy(update={"password": SecretStr(password)})
        calendar = open_calendar(config)
        if isinstance(calendar, CalDavCalendar):
            calendar._pause = pause
        self.stack.callback(calendar.close)
        return calendar

    def proxy(self):
        """A proxy to the server; `proxy.through(url)` leads through it."""
        proxy = Proxy("127.0.0.1", self.server.port, "postgres" if self.engine == "postgresql" else "http")
        return self.stack.enter_context(proxy)

    def person(self):
        return self.stack.enter_context(Person(self))

    def control(self, what, **said):
        """Tell the unruly server how to behave (see unruly.py); what it answers."""
        with self.server.client() as client:
            answer = client.post(f"/-/{what}", json=said).raise_for_status()
            return answer.json() if answer.content else None

    def next(self, status, **said):
        self.control("next", status=status, **said)


class Person:
    """Somebody with a client of their own on a CalDAV calendar."""

    def __init__(self, place):
        self.url, self.http = place.url, place.server.client()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.http.close()

    def address(self, href):
        return self.url + quote(href, safe="")

    def read(self, href):
        answer = self.http.get(self.address(href))
        return None if answer.status_code == 404 else answer.raise_for_status().content

    def write(self, href, ics):
        headers = {"Content-Type": "text/calendar; charset=utf-8"}
        self.http.put(self.address(href), content=ics, headers=headers).raise_for_status()

    def remove(self, href):
        self.http.delete(self.address(href)).raise_for_status()

    def edit(self, href, edit):
        """Change what stands at `href`: `edit` is given it as an `icalendar.Calendar`."""
        calendar = Calendar.from_ical(self.read(href))
        edit(calendar)
        self.write(href, calendar.to_ical())


class Mirror:
    """Somebody who follows a calendar as an agenda does: they have the resources that they know, and a token."""

    def __init__(self, calendar):
        self.calendar, self.token, self.known = calendar, None, {}

    def follow(self):
        """What there is on the calendar now, by href, going on from what was known."""
        changes = self.calendar.changes(self.token, self.known)
        gone = self.known.keys() if changes.complete else set(changes.removed)
        self.known = {href: found for href, found in self.known.items() if href not in gone}
        self.known |= {found.href: found for found in changes.changed}
        self.token = changes.token
        return dict(self.known)


def standing(calendar):
    """What there is on the calendar, by href, read in full."""
    return Mirror(calendar).follow()
