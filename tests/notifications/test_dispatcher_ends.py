"""A dispatcher that ends at any step, or many at once: each message arrives once at the most."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from calsync.calendars.sql import SqlCalendar
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.schedule.sync import CalendarSync
from support.failing import Ended, Fuse
from support.pair import BEN, MIDWEEK, handed, outcomes, settled, standing
from support.processes import ended, environment

STEPS = 34
"""At how many places a hand-off can end: before and after each call to calendar, ticket system and channel."""


@pytest.mark.parametrize("at", range(1, STEPS + 2))
def test_ended_between_any_two_steps_each_message_arrives_once_at_the_most(
    known, calendar, team, server, room, destinations, at
):
    fuse = Fuse(at)
    frail = Destinations(fuse.around(destinations.tickets, "post", "has"), Channels(fuse.around(room, "send")))
    sync = CalendarSync(fuse.around(calendar, "put", "changes"), team, MIDWEEK)
    died = False
    try:
        handed(sync, frail)
    except Ended:
        died = True
    assert died == (at <= STEPS), "the hand-off has another number of steps; count them anew"
    landed = standing(known).reservation.responsible == BEN
    found = settled(known, destinations, MIDWEEK + timedelta(seconds=1), rounds=4)
    assert landed == bool(found)
    assert len(server.comments()) == landed
    assert server.owner() == ("Ben" if landed else None)
    states = outcomes(found)
    if landed:
        assert states["ticket"] == "sent"
        assert states["log"] in ("sent", "unknown")
        assert len(room.said) == 1 or (states["log"] == "unknown" and not room.said)
        assert len(room.said) == 1 or "ended before recording the outcome" in found[-1].detail
    else:
        assert room.said == []


def test_any_number_of_dispatchers_at_once_send_each_message_once(known, tmp_path, team, server, room, destinations):
    room.down, server.down = 1, 1
    handed(known, destinations)
    at = MIDWEEK + timedelta(minutes=1)
    barrier = threading.Barrier(6)

    def work(_):
        calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
        sync = CalendarSync(calendar, team, at)
        sync.refresh(at)
        barrier.wait()
        Dispatcher(sync, destinations).send_due(at)
        calendar.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert (len(room.said), len(server.comments())) == (1, 1)
    assert outcomes(standing(known).deliveries) == {"ticket": "sent", "log": "sent"}


# Processes that are killed


DEADLY = {
    "before the calendar is written": ("put", 1, "before"),
    "once it is written": ("put", 1, "after"),
    "once the ticket's message is claimed": ("put", 2, "after"),
    "once the ticket has it": ("post", 1, "after"),
    "once the channel's message is claimed": ("put", 4, "after"),
    "once the channel has it": ("send", 1, "after"),
    "once that is written down": ("put", 5, "after"),
}


def mortal(*arguments, **options):
    return subprocess.Popen([sys.executable, "-m", "support.mortal", *map(str, arguments)], env=environment(), **options)


@pytest.mark.heavy
@pytest.mark.parametrize("step", DEADLY)
def test_a_hand_off_whose_process_is_killed_at_a_step_is_told_once_at_the_most(
    known, calendar, tmp_path, team, server, destinations, room, step
):
    said = tmp_path / "said"
    said.touch()
    process = mortal("handoff", tmp_path / "deployments.db", server.url, said, *DEADLY[step])
    assert ended(process) == -signal.SIGKILL
    landed = standing(known).reservation.responsible == BEN
    assert landed == (step != "before the calendar is written")
    found = outcomes(settled(known, destinations, MIDWEEK + timedelta(seconds=1), rounds=4))
    lines = said.read_text().splitlines() + room.said
    assert (len(server.comments()), server.owner()) == ((1, "Ben") if landed else (0, None))
    if step in ("once the channel's message is claimed", "once the channel has it"):
        assert found == {"ticket": "sent", "log": "unknown"}
        assert len(lines) == (step == "once the channel has it")
    else:
        assert found == ({"ticket": "sent", "log": "sent"} if landed else {})
        assert len(lines) == landed


@pytest.mark.heavy
def test_of_any_number_of_processes_one_sends_each_message(known, tmp_path, team, server, destinations, room):
    room.down, server.down = 1, 1
    handed(known, destinations)
    said = tmp_path / "said"
    arguments = ("settle", tmp_path / "deployments.db", server.url, said, 60)
    processes = [mortal(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [ended(process) for process in processes] == [0] * 3
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert (len(said.read_text().splitlines()), room.said, len(server.comments())) == (1, [], 1)
    assert outcomes(standing(known).deliveries) == {"ticket": "sent", "log": "sent"}
