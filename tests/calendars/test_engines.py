"""The port's contract, once, for every engine: what callers may rely on wherever the calendar is."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from icalendar import Calendar

from calsync.core.errors import CalendarError, Changed, Refused, Unreachable
from support.engines import SERVERS, Mirror, each_engine, settle, standing
from support.processes import PATIENCE, until
from support.samples import ics

on_servers = pytest.mark.parametrize("place", each_engine(*SERVERS), indirect=True)


def event(name, text, day=1):
    """An event with a mark, by which a write is known again."""
    return ics(
        f"SUMMARY:{text}",
        f"X-CALSYNC-MARK:mark-{text}",
        f"DTSTART:202612{day:02}T090000Z",
        f"DTEND:202612{day:02}T100000Z",
        uid=name.removesuffix(".ics"),
    )


def put(calendar, name, text, *, etag=None):
    """Store an event, and give what then stands: its lasting etag only a read tells."""
    calendar.put(name, event(name, text), etag=etag)
    return standing(calendar)[name]


def texts(resources):
    """What stands where."""
    return {href: str(Calendar.from_ical(found.ics).events[0]["SUMMARY"]) for href, found in resources.items()}


def test_what_is_stored_is_read_back_with_the_same_content(place):
    calendar = place.open()
    sent = event("a.ics", "Train – группа 🚂")
    told = calendar.put("a.ics", sent, etag=None)
    assert (told.href, told.ics) == ("a.ics", sent)
    changes = calendar.changes(None)
    assert changes.complete
    assert changes.removed == ()
    (found,) = changes.changed
    assert found.href == "a.ics"
    assert found.etag
    (mine,), (theirs,) = (Calendar.from_ical(one).events for one in (sent, found.ics))
    assert {name: mine[name] for name in mine} == {name: theirs[name] for name in mine}


def test_a_resource_is_created_only_where_there_is_none(place):
    calendar = place.open()
    first = put(calendar, "a.ics", "first")
    with pytest.raises(Changed, match="exists already"):
        calendar.put("a.ics", event("a.ics", "second"), etag=None)
    assert standing(calendar) == {"a.ics": first}


def test_a_write_or_removal_with_another_etag_is_refused_and_changes_nothing(place):
    calendar = place.open()
    first = put(calendar, "a.ics", "first")
    second = put(calendar, "a.ics", "second", etag=first.etag)
    assert second.etag != first.etag
    for attempt in (
        lambda: calendar.put("a.ics", event("a.ics", "third"), etag=first.etag),
        lambda: calendar.put("a.ics", event("a.ics", "third"), etag="wrong"),
        lambda: calendar.put("a.ics", event("a.ics", "third"), etag=""),
        lambda: calendar.put("b.ics", event("b.ics", "third"), etag=first.etag),
        lambda: calendar.delete("a.ics", etag=first.etag),
        lambda: calendar.delete("a.ics", etag="wrong"),
        lambda: calendar.delete("b.ics", etag=second.etag),
    ):
        with pytest.raises(Changed):
            attempt()
    assert standing(calendar) == {"a.ics": second}


def test_a_removed_resource_is_gone_and_can_be_made_again(place):
    calendar = place.open()
    mirror = Mirror(calendar)
    for n in range(3):
        made = put(calendar, "a.ics", f"made {n}")
        assert texts(mirror.follow()) == {"a.ics": f"made {n}"}
        calendar.delete("a.ics", etag=made.etag)
        assert mirror.follow() == {}
        with pytest.raises(Changed):
            calendar.put("a.ics", event("a.ics", "changed"), etag=made.etag)
    assert standing(calendar) == {}


def test_changes_since_a_token_are_what_was_written_and_removed_since(place):
    calendar = place.open()
    mirror = Mirror(calendar)
    a, b = put(calendar, "a.ics", "a"), put(calendar, "b.ics", "b")
    put(calendar, "c.ics", "c")
    before = mirror.follow()
    nothing = calendar.changes(mirror.token, mirror.known)
    assert (nothing.changed, nothing.removed, nothing.complete) == ((), (), False)
    calendar.put("a.ics", event("a.ics", "a changed"), etag=a.etag)
    calendar.delete("b.ics", etag=b.etag)
    calendar.put("d.ics", event("d.ics", "d"), etag=None)
    changes = calendar.changes(mirror.token, mirror.known)
    assert {found.href for found in changes.changed} == {"a.ics", "d.ics"}
    assert (changes.removed, changes.complete) == (("b.ics",), False)
    after = mirror.follow()
    assert texts(after) == {"a.ics": "a changed", "c.ics": "c", "d.ics": "d"}
    assert after["c.ics"] == before["c.ics"]
    assert mirror.follow() == after == standing(calendar)


@pytest.mark.parametrize(
    "token", ["", "nonsense", "-1", "http://radicale.org/ns/sync/" + 64 * "0", "ctag 1", "\N{SNOWMAN}<&"]
)
def test_a_token_that_the_calendar_does_not_know_leads_to_what_stands_all_the_same(place, token):
    calendar = place.open()
    put(calendar, "a.ics", "a"), put(calendar, "b.ics", "b")
    mirror = Mirror(calendar)
    known = mirror.follow()
    calendar.delete("b.ics", etag=known["b.ics"].etag)
    calendar.put("c.ics", event("c.ics", "c"), etag=None)
    mirror.token = token
    assert texts(mirror.follow()) == {"a.ics": "a", "c.ics": "c"}
    forgetful = Mirror(calendar)
    forgetful.token = token
    assert forgetful.follow() == mirror.known


def test_what_is_over_is_told_of_all_the_same_where_it_is_asked_for(place):
    calendar = place.open()
    for href in ("a.ics", "b.ics", "c.ics"):
        put(calendar, href, href)
    over = datetime(2026, 12, 1, tzinfo=UTC)
    calendar.mark_ended({found.etag: over for href, found in standing(calendar).items() if href != "c.ics"})
    told = calendar.changes(None, {}, over + timedelta(days=1), ["b.ics", "none.ics"])
    assert {"b.ics", "c.ics"} <= {found.href for found in told.changed}
    assert "none.ics" not in {found.href for found in told.changed}


def test_a_token_outlives_many_changes_and_the_process(place):
    calendar = place.open()
    put(calendar, "a.ics", "a")
    mirror = Mirror(calendar)
    mirror.follow()
    for n in range(8):
        calendar.put(f"{n}.ics", event(f"{n}.ics", f"event {n}"), etag=None)
    found = standing(calendar)
    for n in range(0, 8, 2):
        calendar.delete(f"{n}.ics", etag=found[f"{n}.ics"].etag)
    mirror.calendar = place.open()
    assert texts(mirror.follow()) == {"a.ics": "a"} | {f"{n}.ics": f"event {n}" for n in range(1, 8, 2)}
    assert mirror.follow() == standing(calendar)


def test_two_replicas_see_each_others_writes_and_keep_to_each_others_etags(place):
    one, other = place.open(), place.open()
    mirror = Mirror(other)
    mirror.follow()
    made = put(one, "a.ics", "first")
    assert mirror.follow() == {"a.ics": made}
    with pytest.raises(Changed):
        other.put("a.ics", event("a.ics", "second"), etag=None)
    changed = put(other, "a.ics", "second", etag=made.etag)
    with pytest.raises(Changed):
        one.delete("a.ics", etag=made.etag)
    assert standing(one) == {"a.ics": changed}


@pytest.mark.heavy
@pytest.mark.parametrize("action", ["create", "change"])
def test_of_writers_at_once_through_several_replicas_exactly_one_wins_and_its_write_stands(place, action):
    if place.engine == "unruly":
        place.control("switch", races=True)
    replicas = [place.open(pause=settle) for _ in range(3)]
    for replica in replicas:
        replica.probe()
    etag = put(replicas[0], "a.ics", "before").etag if action == "change" else None
    together = threading.Barrier(len(replicas))

    def write(n):
        together.wait()
        try:
            replicas[n].put("a.ics", event("a.ics", f"writer {n}"), etag=etag)
        except CalendarError as error:
            return error
        return n

    with ThreadPoolExecutor(len(replicas)) as pool:
        told = list(pool.map(write, range(len(replicas))))
    (winner,) = [one for one in told if isinstance(one, int)]
    # A server that was busy with the winner may not say more than that; only looking again tells then.
    assert all(isinstance(one, Changed | Unreachable) for one in told if one != winner), told
    assert texts(standing(replicas[0])) == {"a.ics": f"writer {winner}"}


def test_one_engine_serves_many_threads_and_loses_nothing(place):
    calendar = place.open()
    calendar.probe()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: calendar.put(f"{n}.ics", event(f"{n}.ics", str(n)), etag=None), range(12)))
        found = list(pool.map(lambda _: texts(standing(calendar)), range(4)))
    assert found == 4 * [{f"{n}.ics": str(n) for n in range(12)}]


@on_servers
def test_a_server_that_is_away_is_unreachable_and_found_again_by_itself(place):
    proxy = place.proxy()
    calendar = place.open(proxy.through(place.url))
    mirror = Mirror(calendar)
    made = put(calendar, "a.ics", "a")
    known = mirror.follow()
    proxy.down()
    for attempt in (
        mirror.follow,
        lambda: calendar.put("b.ics", event("b.ics", "b"), etag=None),
        lambda: calendar.delete("a.ics", etag=made.etag),
    ):
        with pytest.raises(Unreachable, match="The calendar") as caught:
            attempt()
        assert 0 < caught.value.retry_after <= 60
    proxy.up()
    assert mirror.follow() == known
    assert texts({"b.ics": put(calendar, "b.ics", "b")}) == {"b.ics": "b"}


@on_servers
def test_a_server_that_is_away_when_calsync_starts_is_found_once_it_is_there(place):
    proxy = place.proxy()
    proxy.down()
    calendar = place.open(proxy.through(place.url))
    with pytest.raises(Unreachable):
        calendar.changes(None)
    proxy.up()
    assert standing(calendar) == {}
    assert put(calendar, "a.ics", "a")


@pytest.mark.heavy
@on_servers
def test_a_server_that_does_not_answer_in_time_is_unreachable(place):
    proxy = place.proxy()
    calendar = place.open(proxy.through(place.url), timeout=3)
    mirror = Mirror(calendar)
    mirror.follow()
    proxy.plan(1, "delay", PATIENCE, lasting=True)
    with pytest.raises(Unreachable):
        mirror.follow()
    proxy.heal()
    assert mirror.follow() == {}


@pytest.mark.parametrize("place", each_engine("postgresql", "radicale", "unruly"), indirect=True)
def test_wrong_credentials_are_refused_with_the_remedy_and_not_shown(place):
    calendar = place.open(password="wr0ng-word")
    for attempt in (
        lambda: calendar.changes(None),
        lambda: calendar.put("a.ics", event("a.ics", "a"), etag=None),
        lambda: calendar.delete("a.ics", etag="1"),
    ):
        with pytest.raises(Refused, match="CALSYNC_CALENDAR_PASSWORD") as caught:
            attempt()
        assert "wr0ng-word" not in str(caught.value)
    assert standing(place.open()) == {}


def test_a_calendar_that_is_closed_has_let_go_of_connections_and_files(place):
    def held():
        return len(os.listdir("/dev/fd"))

    before = held()
    calendar = place.open()
    place.stack.pop_all()
    put(calendar, "a.ics", "a")
    calendar.close()
    calendar.close()
    until(lambda: held() <= before, "connections are given back")
