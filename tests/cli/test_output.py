"""Tables on the command line: however long the texts in them are, nothing is lost."""

import io
import re
from collections import Counter
from dataclasses import replace
from itertools import takewhile

import pytest
from rich.console import Console

from calsync.cli import output
from calsync.cli.output import show_rotation, show_slots
from calsync.schedule import rotation
from calsync.schedule.sync import CalendarSync
from support.samples import PAIR, configured, reserved

WORDS = ("Maximiliane von Hohenstein (European Release Engineering) " * 2)[:100]
UNBROKEN = "x" * 100


@pytest.fixture
def shown(monkeypatch):
    """The lines of the table that a call shows on a terminal, or in a pipe that is taken for so wide."""

    def call(width, terminal, show, *arguments):
        file = io.StringIO()
        console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
        monkeypatch.setattr(output, "out", console)
        show(*arguments)
        lines = re.sub(r"\x1b\[\d*m", "", file.getvalue()).splitlines()
        table = list(takewhile(lambda line: not line.startswith("Turns from"), lines))
        assert terminal is False or width < 80 or max(map(len, table)) <= width
        return table

    return call


def letters(*texts):
    """How often each character stands in them, apart from blanks."""
    return Counter("".join(texts).replace(" ", ""))


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [20, 50, 80, 200])
def test_the_rotation_loses_nothing_of_week_monday_names_and_state(shown, calendar, now, width, terminal):
    people = [{"name": name, "timezone": "Europe/Paris"} for name in (WORDS, UNBROKEN)]
    team = configured(conductors=people, rotation={"order": [WORDS, UNBROKEN], "start": "2026-W49"})
    found = rotation.rotation(CalendarSync(calendar, team, now).refresh(now), now, 2)
    lines = shown(width, terminal, show_rotation, found)
    for week in ("2026-W49 30 Nov ", "2026-W50 7 Dec  "):
        assert [line.rstrip().endswith(" planned") for line in lines if line.startswith(week)] == [True]
    second = next(n for n, line in enumerate(lines) if line.startswith("2026-W50"))
    assert letters(*lines[2:second]) == letters("2026-W49 30 Nov planned", WORDS, UNBROKEN)
    assert letters(*lines[second:]) == letters("2026-W50 7 Dec planned", WORDS, UNBROKEN)
    if not terminal:
        assert lines[2].split("planned")[0] == f"2026-W49 30 Nov {WORDS} {UNBROKEN} "


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [20, 50, 80, 200])
def test_the_slots_lose_nothing_of_day_stage_window_and_clocks(shown, width, terminal):
    slot = replace(reserved().slots[0], stage=WORDS, window=UNBROKEN)
    lines = shown(width, terminal, show_slots, [slot], PAIR, ())
    clocks = "primary 10:00–12:00 02:00–04:00 09:00–11:00"
    assert lines[2].startswith("Tue 1 Dec ")
    assert lines[2].rstrip().endswith(clocks)
    assert letters(*lines[2:]) == letters("Tue 1 Dec", WORDS, UNBROKEN, clocks)
    if not terminal:
        assert lines[2] == f"Tue 1 Dec {WORDS} {UNBROKEN} {clocks}"


def test_a_stage_in_brackets_is_shown(shown):
    slot = replace(reserved().slots[0], stage="[wip]")
    assert any("[wip]" in line for line in shown(80, False, show_slots, [slot], PAIR, ()))
