"""Terminal output: what commands print for people, in sentences and tables, and JSON for scripts."""

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
"""The least width of a column that folds, in cells."""


def plain(text: str) -> str:
    """Return other people's text for a terminal, without markup, and without characters that control it."""
    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


def new_table(*columns: str, fold: Container[str]) -> Table:
    """Return a table with these columns; in a narrow terminal, those of `fold` break their text into lines."""
    heads = (Column(name, overflow="fold", no_wrap=name not in fold) for name in columns)
    return Table(*heads, box=SIMPLE_HEAD, show_edge=False, padding=(0, 0))


def show_table(table: Table) -> None:
    """Print a table without cutting anything: folded in a terminal if it must be, as wide as it must be elsewhere."""
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


def show_outcome(outcome: Outcome, result: str, *, as_json: bool) -> None:
    """Print a reservation, its warnings, and the `result` of the command."""
    if as_json:
        print_json(ReservationOut.of(outcome))
        return
    reservation = outcome.reservation
    show_seats(reservation.week, reservation.pair, reservation.primary, reservation.backup)
    show_slots(reservation.slots, reservation.pair, outcome.skipped)
    show_conflicts(outcome.warnings, ())
    for line in outcome.changes:
        out.print(f"[yellow]![/] {plain(line)}")
    ticket = f", {plain(reservation.ticket)}" if reservation.ticket else ""
    out.print(f"[green]{reservation.week} {result}[/] for {plain(reservation.train_title)}{ticket}.")


def show_seats(week: Week, pair: Pair, primary: Seat, backup: Seat) -> None:
    """Print who sits in which window, and the reason."""
    spans = "the pair spans regions" if primary.window != backup.window else "the pair shares a window"
    out.print(f"[bold]{week}[/]: {spans}")
    for role, who, seat in (("primary", pair.primary, primary), ("backup", pair.backup, backup)):
        name = "" if who.name == role else f" [bold]{plain(who.name)}[/]"
        out.print(f"  {role}{name} sits in [bold]{seat.window}[/]: {plain(seat.reason)}", soft_wrap=True)


def show_slots(slots: Sequence[Slot], pair: Pair, skipped: Sequence[Slot]) -> None:
    """Print the slots by start, on the clocks of the pair and in UTC."""
    zones = list(dict.fromkeys([pair.primary.timezone, pair.backup.timezone, "UTC"]))
    cities = (name.rpartition("/")[2].replace("_", " ") for name in zones)
    table = new_table("Day", "Stage", "Window", "For", *cities, fold=("Stage", "Window"))
    for slot in slots:
        clocks = (_clock(slot, slot.start.date(), name) for name in zones)
        table.add_row(_day(slot.start), plain(slot.stage or ""), slot.window, slot.role, *clocks)
    show_table(table)
    for slot in skipped:
        out.print(f"[dim]{slot.id} is already over and left out.[/]")


def _day(moment: datetime) -> str:
    return f"{moment:%a} {moment.day} {moment:%b}"


def _clock(slot: Slot, day: date, timezone: str) -> str:
    """Return the slot's time in a timezone, with the weekday if that is not the one of `day`."""
    start, end = (edge.astimezone(zone(timezone)) for edge in (slot.start, slot.end))
    return (f"{start:%a} " if start.date() != day else "") + f"{start:%H:%M}–{end:%H:%M}"


def show_conflicts(conflicts: Sequence[Conflict], alternatives: Sequence[Alternative]) -> None:
    """Print the conflicts, then the free alternatives."""
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
    """Print what the calendar's server guarantees, and what not."""
    for capability in capabilities:
        mark = "[green]✓[/]" if capability.holds else "[yellow]![/]"
        out.print(f"{mark} {plain(capability.sentence)}.", soft_wrap=True)


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what needs care, or that nothing does."""
    for href, defects in diagnosis.defects.items():
        for defect in defects:
            out.print(f"[red]✗[/] {plain(href)}: {plain(defect)}", soft_wrap=True)
    for change in diagnosis.changes:
        out.print(f"[yellow]![/] {plain(change)}", soft_wrap=True)
    show_conflicts(diagnosis.conflicts, ())
    for fault in diagnosis.channels:
        out.print(f"[red]✗[/] {plain(fault)}", soft_wrap=True)
    for name, why in diagnosis.feeds.items():
        out.print(f"[yellow]![/] {plain(name)}: {plain(why)}.", soft_wrap=True)
    states = {"failed": "did not arrive", "unknown": "may or may not have arrived"}
    for week, message in diagnosis.messages:
        detail = f" ({message.detail})" if message.detail else ""
        pending = f"did not arrive yet; next attempt at {message.not_before:%H:%M:%S} UTC"
        state = states.get(message.state, pending)
        mark = "[yellow]![/]" if message.state == "pending" else "[red]✗[/]"
        line = f"{week}: a message ({message.target}) {state}{detail}: {message.text}"
        out.print(f"{mark} {plain(' '.join(line.split()))}", soft_wrap=True)
    if diagnosis.is_clean:
        out.print("[green]✓[/] Everything on it can be read, and nothing conflicts with a reserved slot.")


_STATES = {"reserved": "reserved", "planned": "planned", "open": "[red]open[/]", "no-train": "[dim]no train[/]"}


def show_rotation(rotation: Rotation) -> None:
    """Print the weeks with their notes, and everybody's turns over the year."""
    table = new_table("Week", "Monday", "Primary", "Backup", "", fold=("Primary", "Backup"))
    for turn in rotation.turns:
        monday = turn.week.monday
        nobody = "[red]nobody[/]" if turn.state == "open" else ""
        names = (plain(name) if name else nobody for name in (turn.primary, turn.backup))
        table.add_row(str(turn.week), f"{monday.day} {monday:%b}", *names, _STATES[turn.state])
    show_table(table)
    for turn in rotation.turns:
        for note in turn.notes:
            out.print(f"[yellow]![/] {turn.week}: {plain(note)}", soft_wrap=True)
    turns = ", ".join(f"{tally.name} {tally.turns}" for tally in rotation.tallies)
    out.print(f"Turns from {rotation.year[0]} to {rotation.year[1]}: {plain(turns)}.", soft_wrap=True)
    for tally in rotation.tallies:
        if tally.reason:
            out.print(f"[yellow]![/] {plain(tally.name)} has {tally.turns}: {plain(tally.reason)}.", soft_wrap=True)


def show_reserved(week: WeekResult) -> None:
    """Print the result for one week of the rotation."""
    mark = "[red]✗[/]" if week.result in FAILED else "[green]✓[/]" if week.result == "reserved" else "[dim]·[/]"
    out.print(f"{mark} {plain(week.message)}", soft_wrap=True)
    show_conflicts(week.conflicts, ())


def show_away(absence: AbsenceView) -> None:
    """Print an absence, its conflicts with reserved slots, and who could cover."""
    record, start, end = absence.record, absence.start, absence.end
    note = f": {' '.join(record.note.split())}" if record.note else ""
    if isinstance(start, datetime) and isinstance(end, datetime):
        span = f"{format_span(start, end)} {record.timezone}"
    else:
        span = f"{start:%a %Y-%m-%d}" + (f" to {end:%a %Y-%m-%d}" if end > start else "")
    source = absence.name or "from their busy feed"
    out.print(f"{plain(record.conductor)} is away {span}{plain(note)} [dim]({plain(source)})[/]", soft_wrap=True)
    show_conflicts(absence.conflicts, ())
    for conflict in absence.conflicts:
        for cover in conflict.cover:
            out.print(f"[green]cover[/] for {conflict.slot}: {plain(cover.reason)}", soft_wrap=True)


def show_deliveries(deliveries: Sequence[Delivery]) -> None:
    """Print messages and their states."""
    places = {"ticket": "ticket", "log": "operations channel", "updates": "channel"}
    marks = {"sent": "[green]✓[/]", "skipped": "[dim]·[/]", "pending": "[yellow]![/]", "claimed": "[yellow]![/]"}
    states = {"pending": "not sent yet; will be retried", "claimed": "being sent", "unknown": "may or may not have arrived"}
    for delivery in deliveries:
        ticket = f" {delivery.ticket}" if delivery.ticket else ""
        place = plain(places.get(delivery.target, delivery.target) + ticket)
        mark = marks.get(delivery.state, "[red]✗[/]")
        detail = f": {plain(delivery.detail)}" if delivery.detail else ""
        out.print(f"{mark} {place}: {states.get(delivery.state, delivery.state)}{detail}", soft_wrap=True)
