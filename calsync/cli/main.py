"""The command line: the app, and what its errors become.

Tables are for people, `--json` is for scripts and has the API's shapes. Results go to stdout, errors to stderr. Exit
codes: 0 done, 1 conflict, 2 bad input, 3 calendar away, 70 a defect of calsync.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, NoReturn

import typer

from calsync import __version__
from calsync.cli import doctor, feed, reservations, serve, week
from calsync.cli.errors import DEFECT, DONE, fail
from calsync.cli.output import err, out
from calsync.core.errors import CalsyncError

app = typer.Typer(
    help="Put a deployment train on the calendar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (reservations, feed, doctor, serve, week):
    app.add_typer(module.commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"calsync {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Put a deployment train on the calendar."""


def main(arguments: Sequence[str] | None = None, clock: Callable[[], datetime] | None = None) -> NoReturn:
    """Run the command line; tests pass a `clock` that returns the time (aware)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(arguments, obj=clock, prog_name="calsync", standalone_mode=True)
    except CalsyncError as error:
        fail(error, as_json="--json" in arguments)
    except Exception:  # Python's own exit code, 1, would look like a conflict
        err.print_exception()
        raise SystemExit(DEFECT) from None
    raise SystemExit(DONE)
