"""Arguments and options that several commands take, each with its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("windows.toml")
PERSON = "A name of the roster, a timezone, or NAME@TIMEZONE."
WEEK = "An ISO week or a date in it."

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, in the API's shapes.")]
Backup = Annotated[str, typer.Argument(help=f"The backup conductor. {PERSON}", show_default=False)]
BackupHours = Annotated[str | None, typer.Option(help="Working hours of the backup.")]
BackupWindow = Annotated[str | None, typer.Option(help="The window the backup sits in.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration.", show_default=True)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and print the same, but write nothing.")]
IfMatch = Annotated[str | None, typer.Option("--if-match", help="Fail if the reservation has another etag by now.")]
Override = Annotated[str | None, typer.Option(help="Why conflicts are accepted; recorded on the events.")]
Primary = Annotated[str, typer.Argument(help=f"The primary conductor. {PERSON}", show_default=False)]
PrimaryHours = Annotated[str | None, typer.Option(help="Working hours of the primary, such as 09:00-18:00.")]
PrimaryWindow = Annotated[str | None, typer.Option(help="The window the primary sits in, whatever the hours say.")]
Ticket = Annotated[str | None, typer.Option(help="The train blocker ticket, such as T400001.")]
Train = Annotated[str | None, typer.Option(help="The version, such as 1.46.0-wmf.5.")]
WeekArgument = Annotated[str, typer.Argument(help=WEEK)]
WeekOption = Annotated[
    str | None, typer.Option("--week", help="An ISO week or a date in it; by default, the next train week.")
]
