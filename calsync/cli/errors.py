"""Errors → exit codes: the one place that maps calsync's error tree to the command line."""

from __future__ import annotations

from typing import NoReturn

from calsync.cli.output import err, plain, print_json, show_conflicts
from calsync.core import errors
from calsync.core.conflict import Conflicted
from calsync.schemas.reservations import AlternativeOut, ConflictOut

DONE, CONFLICT, BAD_INPUT, CALENDAR_AWAY, DEFECT = 0, 1, 2, 3, 70


def exit_code(error: errors.CalsyncError) -> int:
    """Return the exit code for an error."""
    match error:
        case Conflicted() | errors.Changed():
            return CONFLICT
        case errors.CalendarError():
            return CALENDAR_AWAY
        case _:
            return BAD_INPUT


def fail(error: errors.CalsyncError, *, as_json: bool) -> NoReturn:
    """Print the error and exit with its code."""
    if isinstance(error, Conflicted):
        if as_json:
            report = {
                "detail": str(error),
                "conflicts": [ConflictOut.model_validate(conflict) for conflict in error.conflicts],
                "alternatives": [AlternativeOut.model_validate(free) for free in error.alternatives],
            }
            print_json(report)
        else:
            show_conflicts(error.conflicts, error.alternatives)
    elif isinstance(error, errors.ConfigInvalid):
        err.print("[red]The configuration has mistakes; nothing was started:[/]")
    for line in str(error).splitlines():
        err.print(f"[red]calsync:[/] {plain(line)}", soft_wrap=True)
    raise SystemExit(exit_code(error))
