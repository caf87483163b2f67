"""What the command line shows of the pair's week: the rotation, absences, and what became of messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from calsync.absences import Standing
from calsync.conflicts import when
from calsync.deliveries import Delivery
from calsync.rota import FAILED, Reserved, Rotation
from calsync.tables import new_table, out, plain, show_conflicts, show_table

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


def show_reserved(found: Reserved) -> None:
    """What became of one week."""
    mark = "[red]✗[/]" if found.result in FAILED else "[green]✓[/]" if found.result == "reserved" else "[dim]·[/]"
    out.print(f"{mark} {plain(found.message)}", soft_wrap=True)
    show_conflicts(found.conflicts, ())


def show_away(found: Standing) -> None:
    """An absence, and what it does to reserved slots."""
    note = f": {' '.join(found.away.note.split())}" if found.away.note else ""
    if isinstance(found.start, datetime) and isinstance(found.end, datetime):
        span = f"{when(found.start, found.end)} {found.away.timezone}"
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
