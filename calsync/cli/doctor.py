"""The command doctor."""

from __future__ import annotations

import typer

from calsync.cli.errors import CONFLICT
from calsync.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile
from calsync.cli.output import out, plain, print_json, show_capabilities, show_diagnosis
from calsync.cli.session import open_session
from calsync.notifications.channels import faults
from calsync.notifications.destinations import missing_secrets
from calsync.schedule.doctor import diagnose
from calsync.schemas.reservations import ConflictOut
from calsync.schemas.week import DeliveryOut

commands = typer.Typer()


@commands.command(epilog="Example: calsync doctor --config /etc/calsync/windows.toml")
def doctor(context: typer.Context, file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check configuration, calendar, channels and busy feeds, and say what is wrong; exit with 1 if something is.

    On a CalDAV server, this writes a few events of the year 2000 and removes them again.
    """
    with open_session(context, file, needs="calendar") as session:
        config, agenda = session.config, session.sync.agenda
        capabilities = session.sync.calendar.probe()
        unread = session.feeds.failures(agenda.horizon, session.now)
        diagnosis = diagnose(agenda, session.now, channels=faults(config), feeds=unread)
    missing = missing_secrets(config)
    if as_json:
        report = {
            "calendar": config.calendar.url,
            "resources": len(agenda.objects),
            "promises": [{"holds": capability.holds, "sentence": capability.sentence} for capability in capabilities],
            "defects": {href: list(defects) for href, defects in diagnosis.defects.items()},
            "changes": list(diagnosis.changes),
            "conflicts": [ConflictOut.model_validate(conflict) for conflict in diagnosis.conflicts],
            "messages": [{"week": str(week), **dict(DeliveryOut.of(message))} for week, message in diagnosis.messages],
            "missing": list(missing),
            "channels": list(diagnosis.channels),
            "feeds": dict(diagnosis.feeds),
        }
        print_json(report)
    else:
        out.print(f"[green]✓[/] {plain(str(file))} is sound: {len(config.windows)} windows.")
        out.print(f"[green]✓[/] {plain(config.calendar.url)} answers: {len(agenda.objects)} resources.")
        show_capabilities(capabilities)
        for sentence in missing:
            out.print(f"[yellow]![/] {plain(sentence)}", soft_wrap=True)
        show_diagnosis(diagnosis)
    if diagnosis.needs_care:
        raise typer.Exit(CONFLICT)
