"""What the calendar in an SQLite file does beyond the contract of every engine (see test_engines.py)."""

import re
import sqlite3
import subprocess
import sys

import pytest

from calsync.calendars.sql import SqlCalendar
from calsync.core.errors import Refused, Unreachable
from support.processes import environment
from support.samples import decoded


def hrefs(changes):
    return [resource.href for resource in changes.changed]


def test_a_resource_is_stored_and_read_back_byte_for_byte(calendar):
    stored = calendar.put("a.ics", b"\x00\xff bytes", etag=None)
    changes = calendar.changes(None)
    assert changes.changed == (stored,)
    assert changes.complete
    assert (stored.href, stored.ics) == ("a.ics", b"\x00\xff bytes")


@pytest.mark.parametrize(
    "token", ["", "nonsense", "-1", "other-1", "{uuid}-", "{uuid}-999", "{uuid}--1", "{uuid}-1x", "{uuid}-²", "\0"]
)
def test_a_token_that_the_calendar_does_not_know_is_answered_with_everything(calendar, token):
    known = calendar.put("a.ics", b"1", etag=None).etag.rpartition("-")[0]
    changes = calendar.changes(token.replace("{uuid}", known))
    assert changes.complete
    assert hrefs(changes) == ["a.ics"]


def test_a_token_of_another_calendar_file_means_nothing_here(calendar, tmp_path):
    other = SqlCalendar.sqlite(tmp_path / "other.db")
    other.put("x.ics", b"1", etag=None)
    calendar.put("a.ics", b"1", etag=None)
    assert calendar.changes(other.changes(None).token).complete
    other.close()


def test_what_was_written_is_there_for_the_next_process_and_tokens_still_hold(calendar, tmp_path):
    stored = calendar.put("a.ics", b"1", etag=None)
    token = calendar.changes(None).token
    calendar.close()
    again = SqlCalendar.sqlite(tmp_path / "deployments.db")
    assert again.changes(None).changed == (stored,)
    assert not again.changes(token).complete
    again.put("a.ics", b"2", etag=stored.etag)
    again.close()


def test_a_newer_schema_is_refused_with_the_remedy(calendar, tmp_path):
    calendar.close()
    with sqlite3.connect(tmp_path / "deployments.db") as connection:
        connection.execute("UPDATE calendar SET schema_version = 2")
    connection.close()
    with pytest.raises(Refused, match=r"schema version 2.* version 1"):
        SqlCalendar.sqlite(tmp_path / "deployments.db")


def test_a_file_that_is_no_database_or_has_no_folder_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("no database" * 1000)
    with pytest.raises(Refused, match="cannot be used"):
        SqlCalendar.sqlite(tmp_path / "text.db")
    with pytest.raises(Refused, match=r"missing .*does not exist"):
        SqlCalendar.sqlite(tmp_path / "missing" / "a.db")
    with pytest.raises(Refused, match="cannot be used"):
        SqlCalendar.sqlite(tmp_path)


def test_a_calendar_that_somebody_keeps_locked_is_busy_and_not_broken(calendar, tmp_path):
    calendar.put("a.ics", b"1", etag=None)
    holder = sqlite3.connect(tmp_path / "deployments.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with calendar._engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(Unreachable, match="busy"):
        calendar.put("b.ics", b"1", etag=None)
    assert hrefs(calendar.changes(None)) == ["a.ics"]
    holder.execute("ROLLBACK")
    holder.close()
    assert calendar.put("b.ics", b"1", etag=None)


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from calsync.calendars.sql import SqlCalendar
from calsync.core.planning import plan
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.ical.reservation import encode_reservation
from support.samples import PAIR, configured, utc

calendar = SqlCalendar.sqlite(Path(sys.argv[1]))
found = plan(configured(), PAIR, Week(2026, 49), utc(2020, 1, 1))
reservation = Reservation(found.week, "Train", PAIR, found.primary, found.backup, found.slots, utc(2026, 11, 24))
for n in range(100_000):
    ics = encode_reservation(configured(), replace(reservation, sequence=n), str(n))
    stored = calendar.put(f"train-{n}.ics", ics, etag=None)
    print(stored.href, stored.etag, flush=True)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("lines", [1, 7, 40])
def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path, lines):
    command, pipe = [sys.executable, "-c", WRITER, str(tmp_path / "a.db")], subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment())
    acknowledged = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    rest, said = process.communicate()
    assert all(acknowledged), said
    acknowledged += re.findall(r".+\n", rest)
    calendar = SqlCalendar.sqlite(tmp_path / "a.db")
    found = {resource.href: resource for resource in calendar.changes(None).changed}
    for href, etag in (line.split() for line in acknowledged):
        assert found[href].etag == etag
        assert f"train-{decoded(found[href].ics).reservation.sequence}.ics" == href
    assert len(found) <= len(acknowledged) + 1
    assert all(decoded(resource.ics) for resource in found.values())
    calendar.close()
