"""What the calendar in PostgreSQL does beyond the contract of every engine (see test_engines.py)."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from calsync.calendars.sql import SqlCalendar
from calsync.core.errors import Refused, Unreachable
from support.engines import Place, standing
from support.processes import PATIENCE, until

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
LEAVE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
REPLICA = """
import sys
from datetime import timedelta
from pydantic import SecretStr
from calsync.calendars.sql import SqlCalendar
url, username, password, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.read()
calendar = SqlCalendar.postgresql(url, username, SecretStr(password), timedelta(seconds=10))
calendar.put(name, b"bytes", etag=None)
"""


pytestmark = pytest.mark.heavy


@pytest.fixture
def place(running, tmp_path):
    with Place("postgresql", running, tmp_path) as place:
        yield place


def database(place):
    """The database's URL with credentials, as `psql` wants it."""
    return place.url.replace("//", f"//{place.username}:{place.password}@")


def test_replicas_that_start_together_on_an_empty_database_make_one_schema(place):
    command = [sys.executable, "-c", REPLICA, place.url, place.username, place.password]
    ready = threading.Barrier(4)

    def replica(n):
        with subprocess.Popen([*command, f"{n}.ics"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            ready.wait(PATIENCE)
            process.communicate()
        return process.returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(replica, range(4))) == 4 * [0]
    assert standing(place.open()).keys() == {f"{n}.ics" for n in range(4)}
    assert place.server.run("SELECT count(*), max(schema_version) FROM calendar", database(place)) == "1|1\n"


def test_a_newer_schema_is_refused_with_the_remedy(place):
    place.open().put("a.ics", b"1", etag=None)
    place.server.run("UPDATE calendar SET schema_version = 2", database(place))
    with pytest.raises(Refused, match=r"schema version 2.* version 1"):
        place.open().changes(None)


def test_bytes_are_kept_as_they_are(place):
    calendar = place.open()
    stored = calendar.put("a.ics", b"\x00\xff bytes", etag=None)
    assert standing(calendar) == {"a.ics": stored}


def test_connections_that_the_server_closed_are_replaced_unnoticed(place):
    calendar = place.open()
    first = calendar.put("a.ics", b"1", etag=None)
    place.server.run(LEAVE.format(place.url.rpartition("/")[2]))
    second = calendar.put("a.ics", b"2", etag=first.etag)
    assert standing(calendar) == {"a.ics": second}


def test_a_server_that_stops_is_unreachable_and_once_it_is_back_used_again(place):
    proxy = place.proxy()
    calendar = place.open(proxy.through(place.url))
    made = calendar.put("a.ics", b"1", etag=None)
    proxy.down()
    place.server.run(LEAVE.format(place.url.rpartition("/")[2]))
    for _ in range(3):
        with pytest.raises(Unreachable, match="away or busy"):
            calendar.changes(None)
    proxy.up()
    assert standing(calendar) == {"a.ics": made}


def test_a_server_that_hangs_in_a_write_is_cut_off_and_the_write_is_done_or_not(place):
    proxy = place.proxy()
    calendar = place.open(proxy.through(place.url), timeout=3)
    first = calendar.put("a.ics", b"1", etag=None)
    before = len(proxy.requests)
    second = calendar.put("a.ics", b"2", etag=first.etag)
    for n in (2, len(proxy.requests) - before):  # its first statement, and the commit
        proxy.plan(n, "delay", 60, lasting=True)
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="away or busy"):
            calendar.put("a.ics", b"3", etag=second.etag)
        assert time.monotonic() - begun < 30
        proxy.heal()
        until(lambda: place.server.run(CONNECTIONS, database(place)) == "0\n", "no connection is left")
        found = standing(calendar)["a.ics"]
        assert found.ics in (b"2", b"3")
        assert (found.ics == b"2") == (found == second)
        second = calendar.put("a.ics", b"2", etag=found.etag)


@pytest.mark.parametrize("how", ["wrong password", "away", "no such database"])
def test_no_message_shows_the_password(place, how):
    proxy = place.proxy()
    password = SecretStr("wr0ng-word" if how == "wrong password" else place.password)
    url = proxy.through(place.url) + ("-other" if how == "no such database" else "")
    if how == "away":
        proxy.down()
    calendar = SqlCalendar.postgresql(url, place.username, password, place.config().calendar.timeout)
    with pytest.raises(Unreachable if how == "away" else Refused) as caught:
        calendar.changes(None)
    calendar.close()
    assert url.partition("//")[2] in str(caught.value)
    assert password.get_secret_value() not in f"{caught.value} {caught.value!r}"


def test_without_its_library_the_message_says_how_to_install_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Refused, match=r"pip install 'calsync\[postgres\]'"):
        place.open()
