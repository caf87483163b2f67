"""Replicas on one calendar, with nothing in common but it, and a person with a client who does as they please."""

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from icalendar import Calendar

from calsync.booking.reservations import change, release, reserve
from calsync.core.conductors import Pair
from calsync.core.conflict import Conflicted
from calsync.core.errors import CalendarError, Changed, NotReserved
from calsync.ical.reservation import reservation_href
from calsync.schedule.check import ReservationRequest
from support.actions import ANA, NOW, QUICK, WEEKS, connect, serve
from support.engines import ENGINES, Place
from support.processes import PATIENCE, until
from support.samples import PAIR, US, decoded, ics
from support.site import wish

pytestmark = pytest.mark.heavy

FEW = WEEKS[:3]
weeks, replicas = st.sampled_from(FEW), st.sampled_from([0, 1])
pairs = st.sampled_from([PAIR, Pair(ANA, US)])
moments = st.sampled_from(["before", "after"])
acts = st.sampled_from(["add_event", "note", "move", "delete"])


class Person:
    """Somebody with a calendar client: reads a resource, changes it, and writes it where nobody else has meanwhile."""

    def __init__(self, calendar):
        self.calendar = calendar
        self.events, self.notes = {}, {}
        self._numbers = itertools.count()

    def everything(self):
        return {found.href: found for found in self.calendar.changes(None).changed}

    def add_event(self, week):
        """An event during the week's first slot."""
        name = f"person-{next(self._numbers)}"
        start = f"{week.day('tue'):%Y%m%d}T093000Z"
        text = ics(f"DTSTART:{start}", "DURATION:PT30M", f"SUMMARY:{name}", uid=name)
        self.calendar.put(f"{name}.ics", text, etag=None)
        self.events[f"{name}.ics"] = week

    def remove_event(self, week):
        for name in [name for name, when in self.events.items() if when == week]:
            self.calendar.delete(name, etag=self.everything()[name].etag)
            del self.events[name]

    def note(self, week):
        """A property of a client's own on every component of the reservation."""
        number = str(next(self._numbers))
        if self._edit(week, lambda component: component.add("X-NOTE", number)):
            self.notes.setdefault(week, set()).add(number)

    def move(self, week):
        """The reservation's last slot, a quarter of an hour later."""

        def later(component):
            if str(component.get("X-CALSYNC-SLOT", "")) == f"{week.day('thu')}-american":
                for name in ("DTSTART", "DTEND"):
                    moved = component.pop(name).dt + timedelta(minutes=15)
                    component.add(name, moved)
            component["SEQUENCE"] = int(component["SEQUENCE"]) + 1

        self._edit(week, later)

    def delete(self, week):
        found = self.everything().get(reservation_href(week))
        if found is not None:
            self.calendar.delete(found.href, etag=found.etag)
            self.notes.pop(week, None)

    def _edit(self, week, edit):
        found = self.everything().get(reservation_href(week))
        if found is None:
            return False
        calendar = Calendar.from_ical(found.ics)
        for component in calendar.events:
            edit(component)
        self.calendar.put(found.href, calendar.to_ical(), etag=found.etag)
        return True


class Replicas(RuleBasedStateMachine):
    """Two replicas and a person.

    `held` says who was told that a week is theirs and has not lost it to the person since; `asked` is the week that is
    being reserved while something else happens.
    """

    place: Any = None  # makes a place for a new calendar

    @initialize()
    def start(self):
        self.place = type(self).place()
        config = self.place.config(calendar=QUICK)
        first = connect(config)
        ignores_preconditions = getattr(first.calendar, "_ignores_preconditions", None)
        self.replicas = [first, connect(config, ignores_preconditions)]
        self.person = Person(connect(config, ignores_preconditions).calendar)
        self.held, self.asked = {}, None

    @rule(replica=replicas, week=weeks, pair=pairs)
    def reserve(self, replica, week, pair):
        try:
            outcome = reserve(self.replicas[replica], ReservationRequest(pair, week), NOW)
        except Conflicted:
            assert week in self.held or week in self.person.events.values() or week == self.asked
            return
        assert self.held.setdefault(week, pair) == pair
        self.stands(week, pair, outcome)

    @rule(replica=replicas, week=weeks, pair=pairs, moment=moments, other=pairs)
    def reserve_while_the_other_replica_does(self, replica, week, pair, moment, other):
        def act():
            self.reserve(1 - replica, week, other)

        self.reserve_while(replica, week, pair, moment, act)

    @rule(replica=replicas, week=weeks, pair=pairs, moment=moments, act=acts)
    def reserve_while_a_person_acts(self, replica, week, pair, moment, act):
        self.reserve_while(replica, week, pair, moment, lambda: self.a_person(act, week))

    def reserve_while(self, replica, week, pair, moment, act):
        self.asked = week
        with Meanwhile(self.replicas[replica].calendar, moment, act):
            try:
                outcome = reserve(self.replicas[replica], ReservationRequest(pair, week), NOW)
            except (Conflicted, CalendarError):
                # What did not come to be is no loss; whoever was told that they have the week has it.
                if week not in self.held:
                    self.person.notes.pop(week, None)
                return
            finally:
                self.asked = None
        assert self.held.setdefault(week, pair) == pair
        self.stands(week, pair, outcome)

    @rule(replica=replicas, week=weeks, ticket=st.sampled_from(["T1", "T2"]), moment=moments)
    def change_the_ticket_while_a_person_notes(self, replica, week, ticket, moment):
        with Meanwhile(self.replicas[replica].calendar, moment, lambda: self.a_person("note", week)):
            try:
                outcome = change(
                    self.replicas[replica], week, lambda old: ReservationRequest(old.pair, week, ticket=ticket), NOW
                )
            except (Conflicted, NotReserved, Changed):
                return
        assert outcome.reservation.ticket == ticket
        self.stands(week, self.held[week], outcome)

    @rule(replica=replicas, week=weeks)
    def release(self, replica, week):
        try:
            release(self.replicas[replica], week, NOW)
        except NotReserved:
            assert week not in self.held
        self.held.pop(week, None)

    @rule(week=weeks, act=st.sampled_from(["add_event", "remove_event", "note", "move", "delete"]))
    def a_person(self, act, week):
        try:
            getattr(self.person, act)(week)
        except Changed:
            return  # somebody was quicker; the client shows what stands now
        if act == "delete":
            self.held.pop(week, None)

    def stands(self, week, pair, outcome):
        """Whether what a replica said is what everybody finds."""
        found = decoded(self.person.everything()[reservation_href(week)].ics).reservation
        assert (found.pair, found.released) == (pair, False)
        for replica in self.replicas:
            entry = replica.refresh(NOW).reservation(week)
            assert {slot.id for slot in entry.reservation.slots} == {slot.id for slot in outcome.reservation.slots}

    def teardown(self):
        if not hasattr(self, "person"):
            return
        found = self.person.everything()
        assert self.person.events.keys() <= found.keys()
        for week, pair in self.held.items():
            standing = decoded(found[reservation_href(week)].ics).reservation
            assert (standing.pair, standing.released) == (pair, False)
        for week, notes in self.person.notes.items():
            for component in Calendar.from_ical(found[reservation_href(week)].ics).events:
                there = component.get("X-NOTE", [])
                assert notes <= {str(note) for note in (there if isinstance(there, list) else [there])}, week
        for one in (*self.replicas, self.person):
            getattr(one, "calendar", one).close()


class Meanwhile:
    """While it lasts, `act` happens once: right before the calendar's first write, or right after it."""

    def __init__(self, calendar, moment, act):
        self.calendar, self.moment, self.act = calendar, moment, act

    def __enter__(self):
        put, acts = self.calendar.put, iter([self.act])

        def interrupted(*args, **kwargs):
            act = next(acts, lambda: None)
            if self.moment == "before":
                act()
            stored = put(*args, **kwargs)
            if self.moment == "after":
                act()
            return stored

        self.calendar.put = interrupted

    def __exit__(self, *_exception):
        del self.calendar.put


@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_replicas_and_people_do_no_week_has_two_pairs_and_no_edit_is_lost(engine, running, tmp_path_factory):
    new = staticmethod(lambda: Place(engine, running, tmp_path_factory.mktemp(engine)))
    machine = type("On", (Replicas,), {"place": new})
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=12))


def test_of_two_hundred_clients_at_four_replicas_who_want_five_weeks_five_get_them(place, processes):
    config = place.config(calendar=QUICK)
    if place.engine == "unruly":
        place.control("switch", races=True)
    wanted = [str(week) for week in WEEKS[:5]]
    running = [Replica(processes, config) for _ in range(4)]
    clients = [httpx2.Client(base_url=replica.url, timeout=120, trust_env=False) for replica in running]
    try:
        barrier = threading.Barrier(200)

        def want(n):
            barrier.wait(PATIENCE)
            return clients[n % 4].post("/api/reservations", json=wish(wanted[n // 4 % 5], n))

        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(want, range(200)))
        assert sorted(answer.status_code for answer in answers) == [201] * 5 + [409] * 195
        won = [answer.json() for answer in answers if answer.status_code == 201]
        winners = {one["week"]: one["primary"]["name"] for one in won}
        assert sorted(winners) == wanted
        with closing(connect(config).calendar) as calendar:
            standing = [decoded(found.ics).reservation for found in calendar.changes(None).changed]
        assert {str(found.week): found.pair.primary.name for found in standing} == winners
        for client in clients:
            until(lambda client=client: len(client.get("/api/reservations").json()) == 5, "a replica has five weeks")
    finally:
        for client, replica in zip(clients, running, strict=True):
            client.close()
            replica.stop()


class Replica:
    """A calsync server in a process of its own."""

    def __init__(self, processes, config):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = processes.Process(target=serve, args=(config, port))
        self.process.start()
        until(self.is_ready, "the replica is ready")

    def is_ready(self):
        try:
            return httpx2.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self):
        self.process.kill()
        self.process.join()
