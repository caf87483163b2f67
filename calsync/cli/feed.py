"""The command feed."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from calsync.cli.options import DEFAULT_CONFIG, ConfigFile
from calsync.cli.session import open_session
from calsync.schedule.feed import render
from calsync.schemas.requests import FeedQuery

commands = typer.Typer()


@commands.command(epilog="Example: calsync feed --window american --alarm 15m > american.ics")
def feed(
    context: typer.Context,
    window: Annotated[list[str] | None, typer.Option(help="Only this window; may be given several times.")] = None,
    conductor: Annotated[str | None, typer.Option(help="Only slots in which this person sits.")] = None,
    only_reservations: Annotated[bool, typer.Option("--only-reservations", help="Only reserved slots.")] = False,
    alarm: Annotated[str | None, typer.Option(help="A reminder that long before each slot, such as 15m.")] = None,
    file: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Print the iCal feed."""
    with open_session(context, file, needs="copy", refresh_feeds=False) as session:
        only: Literal["reservations"] | None = "reservations" if only_reservations else None
        query = FeedQuery(window=window or [], conductor=conductor, only=only, alarm=alarm)
        feed = render(session.sync.agenda, session.now, query.filters(session.config))
    sys.stdout.buffer.write(feed.body)
    sys.stdout.buffer.flush()
