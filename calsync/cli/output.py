"""What the command line shows to people: seats, slots and conflicts, in words and tables."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping, Sequence
from datetime import date, datetime

from pydantic import BaseModel
from pydantic_core import to_json
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table

from calsync.booking.reservations import Outcome
from calsync.booking.rotation import FAILED, WeekResult
from calsync.calendars.base import Capability
from calsync.core.conductors import Pair
from calsync.core.conflict import Alternative, Conflict
from calsync.core.delivery import Delivery
from calsync.core.planning import Seat
from calsync.core.text import format_span
from calsync.core.timezones import zone
from calsync.core.weeks import Week
from calsync.core.windows import Slot
from calsync.schedule.absences import AbsenceView
from calsync.schedule.doctor import Diagnosis
from calsync.schedule.rotation import Rotation
from calsync.schemas.reservations import ReservationOut

out, err = Console(highlight=False), Console(stderr=True, highlight=False)
_UNBOUNDED = 1_000_000
_FOLDED = 8
"""How narrow a column may fold, in cells."""


def plain(text: str) -> str:
    """Other people's text for a terminal: no markup, and nothing that moves the cursor or turns the writing round."""
    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


def new_table(*columns: str, fold: Container[str]) -> Table:
    """A table of those columns; in a narrow terminal the texts in those of `fold` go on in the next line."""
    heads = (Column(name, overflow="fold", no_wrap=name not in fold) for name in columns)
    return Table(*heads, box=SIMPLE_HEAD, show_edge=False, padding=(0, 0))


def show_table(table: Table) -> None:
    """Print a table with nothing cut: folded where it has to be for a terminal, as wide as it has to be elsewhere."""
    unbounded, least = out.options.update(max_width=_UNBOUNDED), len(table.columns) - 1
    for column in table.columns:
        width = max(Measurement.get(out, unbounded, cell).maximum for cell in (column.header, *column.cells))
        column.min_width = width if column.no_wrap or not out.is_terminal else min(width, _FOLDED)
        least += column.min_width
    table.width = least if least > out.width else None
    out.print(table, crop=False)


def print_json(body: BaseModel | Sequence[BaseModel] | Mapping[str, object]) -> None:
    """Print JSON for scripts, in the API's shapes."""
    sys.stdout.write(to_json(body, indent=2).decode() + "\n")


def show_outcome(outcome: Outcome, said: str, *, as_json: bool) -> None:
    """A reservation, what became of it, and what to know about it."""
    if as_json:
        print_json(ReservationOut.of(outcome))
        return
    found = outcome.reservation
    show_seats(found.week, found.pair, found.primary, found.backup)
    show_slots(found.slots, found.pair, outcome.skipped)
    show_conflicts(outcome.warnings, ())
    for line in outcome.changes:
        out.print(f"[yellow]![/] {plain(line)}")
    train = found.train_title
    out.print(f"[green]{found.week} {said}[/] for {plain(train)}" + (f", {plain(found.ticket)}." if found.ticket else "."))


def show_seats(week: Week, pair: Pair, primary: Seat, backup: Seat) -> None:
    """Who sits where, and why."""
    spans = "the pair spans regions" if primary.window != backup.window else "the pair shares a window"
    out.print(f"[bold]{week}[/]: {spans}")
    for role, who, seat in (("primary", pair.primary, primary), ("backup", pair.backup, backup)):
        name = "" if who.name == role else f" [bold]{plain(who.name)}[/]"
        out.print(f"  {role}{name} sits in [bold]{seat.window}[/]: {plain(seat.reason)}", soft_wrap=True)


def show_slots(slots: Sequence[Slot], pair: Pair, skipped: Sequence[Slot]) -> None:
    """The slots by start, each on the clocks of the pair and in UTC."""
    zones = list(dict.fromkeys([pair.primary.timezone, pair.backup.timezone, "UTC"]))
    cities = (name.rpartition("/")[2].replace("_", " ") for name in zones)
    table = new_table("Day", "Stage", "Window", "For", *cities, fold=("Stage", "Window"))
    for slot in slots:
        clocks = (_clock(slot, slot.start.date(), name) for name in zones)
        table.add_row(_day(slot.start), plain(slot.stage or ""), slot.window, slot.role, *clocks)
    show_table(table)
    for slot in skipped:
        out.print(f"[dim]{slot.id} is over already and left out.[/]")


def _day(moment: datetime) -> str:
    return f"{moment:%a} {moment.day} {moment:%b}"


def _clock(slot: Slot, day: date, timezone: str) -> str:
    """The slot on the clocks of a timezone, with the weekday where that is not `day`."""
    start, end = (edge.astimezone(zone(timezone)) for edge in (slot.start, slot.end))
    return (f"{start:%a} " if start.date() != day else "") + f"{start:%H:%M}–{end:%H:%M}"


def show_conflicts(conflicts: Sequence[Conflict], alternatives: Sequence[Alternative]) -> None:
    """Each conflict with its kind and reason, then the free places."""
    for conflict in conflicts:
        mark = "[red]✗" if conflict.blocking else "[yellow]!"
        out.print(f"{mark} {conflict.kind}[/]: {plain(conflict.message)}", soft_wrap=True)
    for free in alternatives:
        out.print(
            f"[green]free[/] instead of {free.instead_of}: {format_span(free.start, free.end)} "
            f"{free.start.tzinfo} ({free.window})",
            soft_wrap=True,
        )


def show_capabilities(capabilities: Sequence[Capability]) -> None:
    """Print what the calendar's server was found to guarantee, and what not."""
    for capability in capabilities:
        mark = "[green]✓[/]" if capability.holds else "[yellow]![/]"
        out.print(f"{mark} {plain(capability.sentence)}.", soft_wrap=True)


def show_diagnosis(found: Diagnosis) -> None:
    """What needs care, a line each, and that nothing does."""
    for href, defects in found.defects.items():
        for defect in defects:
            out.print(f"[red]✗[/] {plain(href)}: {plain(defect)}", soft_wrap=True)
    for change in found.changes:
        out.print(f"[yellow]![/] {plain(change)}", soft_wrap=True)
    show_conflicts(found.conflicts, ())
    for fault in found.channels:
        out.print(f"[red]✗[/] {plain(fault)}", soft_wrap=True)
    for name, why in found.feeds.items():
        out.print(f"[yellow]![/] {plain(name)}: {plain(why)}.", soft_wrap=True)
    states = {"failed": "did not arrive", "unknown": "may have arrived or not"}
    for week, message in found.messages:
        detail = f" ({message.detail})" if message.detail else ""
        pending = f"did not arrive yet, and is tried again from {message.not_before:%H:%M:%S} UTC on"
        state = states.get(message.state, pending)
        mark = "[yellow]![/]" if message.state == "pending" else "[red]✗[/]"
        line = f"{week}: a message ({message.target}) {state}{detail}: {message.text}"
        out.print(f"{mark} {plain(' '.join(line.split()))}", soft_wrap=True)
    if found.is_clean:
        out.print("[green]✓[/] Everything on it can be read, and nothing conflicts with a reserved slot.")


_STATES = {"reserved": "reserved", "planned": "planned", "open": "[red]open[/]", "no-train": "[dim]no train[/]"}


def show_rotation(found: Rotation) -> None:
    """The weeks, what is unusual about them, and everybody's turns over the year."""
    table = new_table("Week", "Monday", "Primary", "Backup", "", fold=("Primary", "Backup"))
    for turn in found.turns:
        monday = turn.week.monday
        nobody = "[red]nobody[/]" if turn.state == "open" else ""
        names = (plain(name) if name else nobody for name in (turn.primary, turn.backup))
        table.add_row(str(turn.week), f"{monday.day} {monday:%b}", *names, _STATES[turn.state])
    show_table(table)
    for turn in found.turns:
        for note in turn.notes:
            out.print(f"[yellow]![/] {turn.week}: {plain(note)}", soft_wrap=True)
    turns = ", ".join(f"{one.name} {one.turns}" for one in found.tallies)
    out.print(f"Turns from {found.year[0]} to {found.year[1]}: {plain(turns)}.", soft_wrap=True)
    for one in found.tallies:
        if one.reason:
            out.print(f"[yellow]![/] {plain(one.name)} has {one.turns}: {plain(one.reason)}.", soft_wrap=True)


def show_reserved(found: WeekResult) -> None:
    """What became of one week."""
    mark = "[red]✗[/]" if found.result in FAILED else "[green]✓[/]" if found.result == "reserved" else "[dim]·[/]"
    out.print(f"{mark} {plain(found.message)}", soft_wrap=True)
    show_conflicts(found.conflicts, ())


def show_away(found: AbsenceView) -> None:
    """An absence, and what it does to reserved slots."""
    note = f": {' '.join(found.away.note.split())}" if found.away.note else ""
    if isinstance(found.start, datetime) and isinstance(found.end, datetime):
        span = f"{format_span(found.start, found.end)} {found.away.timezone}"
    else:
        span = f"{found.start:%a %Y-%m-%d}" + (f" to {found.end:%a %Y-%m-%d}" if found.end > found.start else "")
    by = found.name or "from their busy feed"
    out.print(f"{plain(found.away.conductor)} is away {span}{plain(note)} [dim]({plain(by)})[/]", soft_wrap=True)
    show_conflicts(found.conflicts, ())
    for conflict in found.conflicts:
        for one in conflict.cover:
            out.print(f"[green]cover[/] for {conflict.slot}: {plain(one.reason)}", soft_wrap=True)


def show_deliveries(found: Sequence[Delivery]) -> None:
    """What became of messages."""
    places = {"ticket": "ticket", "log": "operations channel", "updates": "channel"}
    marks = {"sent": "[green]✓[/]", "skipped": "[dim]·[/]", "pending": "[yellow]![/]", "claimed": "[yellow]![/]"}
    states = {"pending": "not sent yet, and tried again", "claimed": "being sent", "unknown": "may have arrived or not"}
    for one in found:
        place = plain(f"{places.get(one.target, one.target)}{f' {one.ticket}' if one.ticket else ''}")
        detail = f": {plain(one.detail)}" if one.detail else ""
        out.print(
            f"{marks.get(one.state, '[red]✗[/]')} {place}: {states.get(one.state, one.state)}{detail}",
            soft_wrap=True,
        )
