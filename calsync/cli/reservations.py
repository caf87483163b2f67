"""The commands for a reservation: plan, check, reserve, change, release."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from calsync.booking import reservations
from calsync.cli.errors import CONFLICT
from calsync.cli.options import (
    DEFAULT_CONFIG,
    PERSON,
    AsJson,
    Backup,
    BackupHours,
    BackupWindow,
    ConfigFile,
    DryRun,
    IfMatch,
    Override,
    Primary,
    PrimaryHours,
    PrimaryWindow,
    Ticket,
    Train,
    WeekArgument,
    WeekOption,
)
from calsync.cli.output import out, print_json, show_conflicts, show_outcome, show_seats, show_slots
from calsync.cli.session import author, conductor, open_session, time_of
from calsync.core import planning
from calsync.core.conductors import Pair
from calsync.core.config import load
from calsync.core.conflict import blocking
from calsync.core.reservation import Reservation
from calsync.core.weeks import Week
from calsync.schedule.check import ReservationRequest, check_request
from calsync.schemas.reservations import ConflictsOut, PlanOut, ReservationOut

commands = typer.Typer()


@commands.command(epilog="Example: calsync plan ana@Europe/Paris ben@America/Denver --week 2026-W49")
def plan(
    context: typer.Context,
    primary: Primary,
    backup: Backup,
    week: WeekOption = None,
    primary_hours: PrimaryHours = None,
    backup_hours: BackupHours = None,
    primary_window: PrimaryWindow = None,
    backup_window: BackupWindow = None,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say who sits in which window, and why, without reading the calendar."""
    config = load(file, os.environ)
    pair = Pair(
        conductor(config, primary, "primary", primary_hours, primary_window),
        conductor(config, backup, "backup", backup_hours, backup_window),
    )
    plan = planning.plan(config, pair, Week.parse(week) if week else None, time_of(context))
    if as_json:
        print_json(PlanOut.of(plan))
        return
    show_seats(plan.week, plan.pair, plan.primary, plan.backup)
    show_slots(plan.slots, plan.pair, plan.skipped)


@commands.command(epilog="Example: calsync check conductor-eu conductor-us --week 2026-W49")
def check(
    context: typer.Context,
    primary: Primary,
    backup: Backup,
    week: WeekOption = None,
    primary_hours: PrimaryHours = None,
    backup_hours: BackupHours = None,
    primary_window: PrimaryWindow = None,
    backup_window: BackupWindow = None,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Plan the week and check it against the calendar, without writing; exit with 1 if something blocks it."""
    with open_session(context, file, needs="copy") as session:
        pair = Pair(
            conductor(session.config, primary, "primary", primary_hours, primary_window),
            conductor(session.config, backup, "backup", backup_hours, backup_window),
        )
        request = ReservationRequest(pair, Week.parse(week) if week else None)
        check = check_request(session.sync.agenda, request, session.now)
    holder = check.holder.reservation if check.holder else None
    another = check.holder is not None and (holder is None or holder.pair != pair)
    if as_json:
        print_json(ConflictsOut.of(check))
    else:
        plan = check.plan
        show_seats(plan.week, plan.pair, plan.primary, plan.backup)
        show_slots(plan.slots, plan.pair, plan.skipped)
        if check.holder is not None:
            out.print(f"[yellow]{plan.week} is already reserved, {'for another' if another else 'for this'} pair.[/]")
        show_conflicts(check.conflicts, check.alternatives)
        if not check.conflicts and not another:
            out.print("[green]No conflicts.[/]")
    if blocking(check.conflicts) or another:
        raise typer.Exit(CONFLICT)


@commands.command(epilog="Example: calsync reserve conductor-eu conductor-us --train 1.46.0-wmf.5 --ticket T400001")
def reserve(
    context: typer.Context,
    primary: Primary,
    backup: Backup,
    week: WeekOption = None,
    train: Train = None,
    ticket: Ticket = None,
    override: Override = None,
    primary_hours: PrimaryHours = None,
    backup_hours: BackupHours = None,
    primary_window: PrimaryWindow = None,
    backup_window: BackupWindow = None,
    dry_run: DryRun = False,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Reserve a train week for a pair: every slot of it, or none."""
    with open_session(context, file, needs="nothing") as session:
        pair = Pair(
            conductor(session.config, primary, "primary", primary_hours, primary_window),
            conductor(session.config, backup, "backup", backup_hours, backup_window),
        )
        request = ReservationRequest(pair, Week.parse(week) if week else None, train, ticket, override)
        outcome = reservations.reserve(session.sync, request, session.now, author=author(), dry_run=dry_run)
    result = "could be reserved" if dry_run else "is reserved" if outcome.created else "is already reserved"
    show_outcome(outcome, result, as_json=as_json)


@commands.command(epilog="Example: calsync change 2026-W49 --backup ben@America/Denver --ticket T400002")
def change(
    context: typer.Context,
    week: WeekArgument,
    primary: Annotated[str | None, typer.Option(help=f"Another primary. {PERSON}")] = None,
    backup: Annotated[str | None, typer.Option(help=f"Another backup. {PERSON}")] = None,
    train: Train = None,
    ticket: Ticket = None,
    override: Override = None,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Change a week's reservation; slots that are over stay as they are."""
    with open_session(context, file, needs="nothing") as session:
        which = Week.parse(week)

        def request(current: Reservation) -> ReservationRequest:
            pair = Pair(
                conductor(session.config, primary, "primary") if primary else current.pair.primary,
                conductor(session.config, backup, "backup") if backup else current.pair.backup,
            )
            return ReservationRequest(
                pair, which, train or current.train, ticket or current.ticket, override or current.override
            )

        outcome = reservations.change(
            session.sync,
            which,
            request,
            session.now,
            etags=(if_match,) if if_match else None,
            author=author(),
            dry_run=dry_run,
        )
    show_outcome(outcome, "could be reserved as requested" if dry_run else "is reserved as requested", as_json=as_json)


@commands.command(epilog="Example: calsync release 2026-W49")
def release(
    context: typer.Context,
    week: WeekArgument,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Release a week; subscribers see its slots as cancelled until they are over."""
    with open_session(context, file, needs="nothing", refresh_feeds=False) as session:
        outcome = reservations.release(
            session.sync,
            Week.parse(week),
            session.now,
            etags=(if_match,) if if_match else None,
            author=author(),
            dry_run=dry_run,
        )
    if as_json:
        print_json(ReservationOut.of(outcome))
    else:
        out.print(f"[green]{outcome.reservation.week} {'could be released' if dry_run else 'is released'}.[/]")
