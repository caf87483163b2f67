"""The command line for the pair's week: calsync rotation | away | handoff | update | announce."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer
from pydantic import TypeAdapter

from calsync.agenda import Follower
from calsync.rota import reserve_weeks, rotation
from calsync.rotation import check_weeks
from calsync.settings import Config
from calsync.tables import print_json
from calsync.tables_week import show_reserved, show_rotation
from calsync.web.week_answers import ReservedOut, RotationOut

CONFLICT = 1

ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration.", show_default=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, in the API's shapes.")]
DEFAULT_CONFIG = Path("windows.toml")


class Session(Protocol):
    """What a command works with: the configuration, the calendar that was just read, and the time."""

    @property
    def config(self) -> Config:
        """The configuration."""

    @property
    def follower(self) -> Follower:
        """The calendar."""

    @property
    def now(self) -> datetime:
        """The time, aware."""


Open = Callable[[typer.Context, Path], AbstractContextManager[Session]]


def add_to(app: typer.Typer, open_session: Open, author: Callable[[], str | None]) -> None:
    """Give the commands to `app`; `open_session` reads configuration and calendar, `author` tells who calls."""

    @app.command(name="rotation", epilog="Example: calsync rotation --weeks 12 --reserve")
    def _rotation(
        context: typer.Context,
        weeks: Annotated[int, typer.Option(help="How many weeks.")] = 12,
        reserve: Annotated[bool, typer.Option("--reserve", help="Reserve every coming week that is free.")] = False,
        file: ConfigFile = DEFAULT_CONFIG,
        as_json: AsJson = False,
    ) -> None:
        """Say who conducts in the coming weeks, or reserve those; exits with 1 where a week could not be reserved."""
        check_weeks(weeks)
        with open_session(context, file) as session:
            if not reserve:
                found = rotation(session.config, session.follower.agenda, session.now, weeks)
                if as_json:
                    print_json(RotationOut.of(found))
                else:
                    show_rotation(found)
                return
            reserved = []
            for one in reserve_weeks(session.follower, weeks, session.now, author=author()):
                reserved.append(one)
                if not as_json:
                    show_reserved(one)
        if as_json:
            _print_list([ReservedOut.of(one) for one in reserved])
        if any(one.result in ("conflict", "open") for one in reserved):
            raise typer.Exit(CONFLICT)


def _print_list(found: list[ReservedOut]) -> None:
    sys.stdout.write(TypeAdapter(list[ReservedOut]).dump_json(found, indent=2).decode() + "\n")
