"""The command line: calsync serve | plan | check | reserve | change | release | feed | doctor.

Tables are for people, `--json` is for scripts and has the API's shapes. Exit codes: 0 done, 1 conflict, 2 bad input,
3 calendar away, 70 a defect of calsync. Results go to stdout, errors to stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from pythonjsonlogger.core import RESERVED_ATTRS
from starlette.types import ASGIApp

from calsync import __version__
from calsync.booking import reservations
from calsync.calendars.base import Calendar
from calsync.calendars.cache import open_cache
from calsync.calendars.open import open_calendar
from calsync.cli import week
from calsync.cli.output import (
    err,
    out,
    plain,
    print_json,
    show_capabilities,
    show_conflicts,
    show_diagnosis,
    show_outcome,
    show_seats,
    show_slots,
)
from calsync.core import config, errors
from calsync.core.conductors import Conductor, Pair, person
from calsync.core.conflict import Conflicted, blocking
from calsync.core.planning import plan
from calsync.core.reservation import Reservation
from calsync.core.settings import Config
from calsync.core.weeks import Week
from calsync.core.windows import Role
from calsync.core.working_hours import Hours
from calsync.notifications.channels import faults
from calsync.notifications.destinations import missing_secrets
from calsync.schedule import feed
from calsync.schedule.busy_feeds import Feeds
from calsync.schedule.check import ReservationRequest, check_request
from calsync.schedule.doctor import diagnose
from calsync.schedule.sync import CalendarSync
from calsync.schemas.requests import FeedQuery
from calsync.schemas.reservations import AlternativeOut, ConflictOut, ConflictsOut, PlanOut, ReservationOut
from calsync.schemas.week import DeliveryOut
from calsync.web.auth import check_listening

DONE, CONFLICT, BAD_INPUT, CALENDAR_AWAY, DEFECT = 0, 1, 2, 3, 70

app = typer.Typer(
    help="Put a deployment train on the calendar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PERSON = "A name of the roster, a timezone, or NAME@TIMEZONE."
ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration.", show_default=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, in the API's shapes.")]
Primary = Annotated[str, typer.Argument(help=f"The primary conductor. {_PERSON}", show_default=False)]
Backup = Annotated[str, typer.Argument(help=f"The backup conductor. {_PERSON}", show_default=False)]
WeekOption = Annotated[
    str | None, typer.Option("--week", help="An ISO week or a date in it; the next train week, if left out.")
]
PrimaryHours = Annotated[str | None, typer.Option(help="Working hours of the primary, such as 09:00-18:00.")]
BackupHours = Annotated[str | None, typer.Option(help="Working hours of the backup.")]
PrimaryWindow = Annotated[str | None, typer.Option(help="The window the primary sits in, whatever the hours say.")]
BackupWindow = Annotated[str | None, typer.Option(help="The window the backup sits in.")]
Train = Annotated[str | None, typer.Option(help="The version, such as 1.46.0-wmf.5.")]
Ticket = Annotated[str | None, typer.Option(help="The train blocker ticket, such as T400001.")]
Override = Annotated[str | None, typer.Option(help="Why conflicts are accepted; recorded on the events.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and say the same, and write nothing.")]
IfMatch = Annotated[str | None, typer.Option("--if-match", help="Fail if the reservation has another etag by now.")]
DEFAULT_CONFIG = Path("windows.toml")
_WORKERS_CONFIG = "CALSYNC_WORKERS_CONFIG"  # how the processes of one server are told which file to read


@dataclass(frozen=True, slots=True)
class Session:
    """One call of the command line: the configuration, the calendar just read, people's busy feeds, and the time."""

    config: Config
    sync: CalendarSync
    feeds: Feeds
    now: datetime


def _now(context: typer.Context) -> datetime:
    clock: Callable[[], datetime] | None = context.obj
    return clock() if clock else datetime.now(UTC)


@contextmanager
def _session(
    context: typer.Context, file: Path, *, needs: Literal["anything", "calendar", "nothing"], people: bool = True
) -> Iterator[Session]:
    """One call; it needs the calendar as it is, or anything known of it, or nothing yet, since it will sync itself.

    Where it is about when `people` are away, their busy feeds are asked first; otherwise nobody waits for those.
    """
    settings = config.load(file, os.environ)
    calendar: Calendar = open_calendar(settings)
    try:
        now = _now(context)
        sync = CalendarSync(calendar, settings, now, open_cache(settings))
        feeds = Feeds(settings)
        sync.busy = (feeds.refresh if people else feeds.known)(sync.agenda.horizon, now)
        known = sync.recall(now)
        if needs != "nothing":
            try:
                sync.refresh(now)
            except errors.Unreachable as error:
                if needs == "calendar" or known.token is None:
                    raise
                err.print(f"[yellow]calsync:[/] {plain(str(error))}", soft_wrap=True)
                err.print(f"[yellow]calsync:[/] This is what was known at {known.synced:%Y-%m-%d %H:%M:%S} UTC.")
        yield Session(settings, sync, feeds, now)
    finally:
        calendar.close()


def _author() -> str | None:
    return os.environ.get("USER") or os.environ.get("LOGNAME")


def _person(settings: Config, who: str, role: Role, hours: str | None = None, window: str | None = None) -> Conductor:
    return person(settings, who, role, hours=Hours.parse(hours) if hours else None, window=window)


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


@app.command(name="plan", epilog="Example: calsync plan ana@Europe/Paris ben@America/Denver --week 2026-W49")
def plan_command(
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
    """Say who sits in which window, and why; looks at no calendar."""
    settings = config.load(file, os.environ)
    pair = Pair(
        _person(settings, primary, "primary", primary_hours, primary_window),
        _person(settings, backup, "backup", backup_hours, backup_window),
    )
    found = plan(settings, pair, Week.parse(week) if week else None, _now(context))
    if as_json:
        print_json(PlanOut.of(found))
        return
    show_seats(found.week, found.pair, found.primary, found.backup)
    show_slots(found.slots, found.pair, found.skipped)


@app.command(name="check", epilog="Example: calsync check conductor-eu conductor-us --week 2026-W49")
def check_command(
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
    """Plan the week and check it against the calendar; exits with 1 where something blocks it. Writes nothing."""
    with _session(context, file, needs="anything") as session:
        pair = Pair(
            _person(session.config, primary, "primary", primary_hours, primary_window),
            _person(session.config, backup, "backup", backup_hours, backup_window),
        )
        request = ReservationRequest(pair, Week.parse(week) if week else None)
        found = check_request(session.sync.agenda, request, session.now)
    holder = found.holder.reservation if found.holder else None
    another = found.holder is not None and (holder is None or holder.pair != pair)
    if as_json:
        print_json(ConflictsOut.of(found))
    else:
        show_seats(found.plan.week, found.plan.pair, found.plan.primary, found.plan.backup)
        show_slots(found.plan.slots, found.plan.pair, found.plan.skipped)
        if found.holder is not None:
            out.print(f"[yellow]{found.plan.week} is reserved already, {'for another' if another else 'for this'} pair.[/]")
        show_conflicts(found.conflicts, found.alternatives)
        if not found.conflicts and not another:
            out.print("[green]No conflicts.[/]")
    if blocking(found.conflicts) or another:
        raise typer.Exit(CONFLICT)


@app.command(epilog="Example: calsync reserve conductor-eu conductor-us --train 1.46.0-wmf.5 --ticket T400001")
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
    with _session(context, file, needs="nothing") as session:
        pair = Pair(
            _person(session.config, primary, "primary", primary_hours, primary_window),
            _person(session.config, backup, "backup", backup_hours, backup_window),
        )
        request = ReservationRequest(pair, Week.parse(week) if week else None, train, ticket, override)
        outcome = reservations.reserve(session.sync, request, session.now, author=_author(), dry_run=dry_run)
    said = "could be reserved" if dry_run else "is reserved" if outcome.created else "is reserved already"
    show_outcome(outcome, said, as_json=as_json)


@app.command(epilog="Example: calsync change 2026-W49 --backup ben@America/Denver --ticket T400002")
def change(
    context: typer.Context,
    week: Annotated[str, typer.Argument(help="An ISO week or a date in it.")],
    primary: Annotated[str | None, typer.Option(help=f"Another primary. {_PERSON}")] = None,
    backup: Annotated[str | None, typer.Option(help=f"Another backup. {_PERSON}")] = None,
    train: Train = None,
    ticket: Ticket = None,
    override: Override = None,
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Change a week's reservation; slots that are over stay as they were."""
    with _session(context, file, needs="nothing") as session:
        which, settings = Week.parse(week), session.config

        def asked(standing: Reservation) -> ReservationRequest:
            pair = Pair(
                _person(settings, primary, "primary") if primary else standing.pair.primary,
                _person(settings, backup, "backup") if backup else standing.pair.backup,
            )
            return ReservationRequest(
                pair, which, train or standing.train, ticket or standing.ticket, override or standing.override
            )

        outcome = reservations.change(
            session.sync,
            which,
            asked,
            session.now,
            etags=(if_match,) if if_match else None,
            author=_author(),
            dry_run=dry_run,
        )
    show_outcome(outcome, "could be changed so" if dry_run else "stands as asked", as_json=as_json)


@app.command(epilog="Example: calsync release 2026-W49")
def release(
    context: typer.Context,
    week: Annotated[str, typer.Argument(help="An ISO week or a date in it.")],
    if_match: IfMatch = None,
    dry_run: DryRun = False,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Give a week up; subscribers see its slots as cancelled until they are past."""
    with _session(context, file, needs="nothing", people=False) as session:
        outcome = reservations.release(
            session.sync,
            Week.parse(week),
            session.now,
            etags=(if_match,) if if_match else None,
            author=_author(),
            dry_run=dry_run,
        )
    if as_json:
        print_json(ReservationOut.of(outcome))
    else:
        out.print(f"[green]{outcome.reservation.week} {'could be released' if dry_run else 'is released'}.[/]")


@app.command(name="feed", epilog="Example: calsync feed --window american --alarm 15m > american.ics")
def feed_command(
    context: typer.Context,
    window: Annotated[list[str] | None, typer.Option(help="Only this window; may be given several times.")] = None,
    person: Annotated[str | None, typer.Option("--conductor", help="Only slots in which this person sits.")] = None,
    only_reservations: Annotated[bool, typer.Option("--only-reservations", help="Only reserved slots.")] = False,
    alarm: Annotated[str | None, typer.Option(help="A reminder that long before each slot, such as 15m.")] = None,
    file: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Print the iCal feed."""
    with _session(context, file, needs="anything", people=False) as session:
        query = FeedQuery(
            window=window or [], conductor=person, only="reservations" if only_reservations else None, alarm=alarm
        )
        found = feed.render(session.sync.agenda, session.now, query.filters(session.config))
    sys.stdout.buffer.write(found.body)
    sys.stdout.buffer.flush()


@app.command(epilog="Example: calsync doctor --config /etc/calsync/windows.toml")
def doctor(context: typer.Context, file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check configuration, calendar, channels and busy feeds, and say what is wrong; exits with 1 where it needs care.

    A CalDAV server is tried out with a few events of the year 2000, which are removed again.
    """
    with _session(context, file, needs="calendar") as session:
        capabilities = session.sync.calendar.probe()
        agenda = session.sync.agenda
        unread = session.feeds.failures(agenda.horizon, session.now)
        found = diagnose(agenda, session.now, channels=faults(session.config), feeds=unread)
    if as_json:
        report = {
            "calendar": session.config.calendar.url,
            "resources": len(agenda.objects),
            "promises": [{"holds": capability.holds, "sentence": capability.sentence} for capability in capabilities],
            "defects": {href: list(defects) for href, defects in found.defects.items()},
            "changes": list(found.changes),
            "conflicts": [ConflictOut.of(conflict).model_dump(mode="json") for conflict in found.conflicts],
            "messages": [
                {"week": str(week), **DeliveryOut.of(message).model_dump(mode="json")} for week, message in found.messages
            ],
            "missing": list(missing_secrets(session.config)),
            "channels": list(found.channels),
            "feeds": dict(found.feeds),
        }
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        out.print(f"[green]✓[/] {plain(str(file))} is sound: {len(session.config.windows)} windows.")
        out.print(f"[green]✓[/] {plain(session.config.calendar.url)} answers: {len(agenda.objects)} resources.")
        show_capabilities(capabilities)
        for sentence in missing_secrets(session.config):
            out.print(f"[yellow]![/] {plain(sentence)}", soft_wrap=True)
        show_diagnosis(found)
    if found.needs_care:
        raise typer.Exit(CONFLICT)


@app.command(epilog="Example: calsync serve --port 8080")
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on; others than loopback need tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes share the port.")] = 1,
    log_format: Annotated[str, typer.Option(help="text, or json with one object a line.")] = "text",
    file: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Serve page, API and feed until it is told to stop."""
    import uvicorn

    if log_format not in ("text", "json"):
        raise errors.Invalid('--log-format is "text" or "json".')
    settings = config.load(file, os.environ)
    check_listening(host, tokens=settings.tokens, hosts=settings.server.hosts)
    open_calendar(settings).close()  # what can be said of it without asking a server is said before anything starts
    if log_format == "text":
        err.print(
            f"calsync serves [bold]http://{host}:{port}/[/] and the feed http://{host}:{port}/deployments.ics",
            soft_wrap=True,
        )
    # uvicorn stops gracefully and then raises the signal again, which would end the process as if it had been killed.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: None)
    os.environ[_WORKERS_CONFIG] = str(file)
    uvicorn.run(
        "calsync.cli:worker" if workers > 1 else worker(context.obj),
        factory=workers > 1,
        workers=workers,
        host=host,
        port=port,
        log_config=_logging(log_format),
        server_header=False,
        timeout_graceful_shutdown=10,
    )


def worker(clock: Callable[[], datetime] | None = None) -> ASGIApp:
    """The service of one process of `calsync serve`: each reads the configuration and opens the calendar for itself."""
    from calsync.web.app import create_app, utc_now

    settings = config.load(Path(os.environ[_WORKERS_CONFIG]), os.environ)
    return create_app(settings, open_calendar(settings), clock or utc_now)


def _logging(form: str) -> dict[str, object]:
    """Everything to stderr, in one form."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's message again, with escape codes
                "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
                "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": form, "stream": "ext://sys.stderr"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
    }


week.add_to(app, _session, _author, _person, _now)


def _fail(error: errors.CalsyncError, *, as_json: bool) -> NoReturn:
    if isinstance(error, Conflicted):
        if as_json:
            found = {
                "detail": str(error),
                "conflicts": [ConflictOut.of(conflict).model_dump(mode="json") for conflict in error.conflicts],
                "alternatives": [AlternativeOut.of(free).model_dump(mode="json") for free in error.alternatives],
            }
            sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        else:
            show_conflicts(error.conflicts, error.alternatives)
    elif isinstance(error, errors.ConfigInvalid):
        err.print("[red]The configuration has mistakes; nothing was started:[/]")
    for line in str(error).splitlines():
        err.print(f"[red]calsync:[/] {plain(line)}", soft_wrap=True)
    raise SystemExit(_exit_code(error))


def _exit_code(error: errors.CalsyncError) -> int:
    """The one place where calsync's error tree meets exit codes."""
    match error:
        case Conflicted() | errors.Changed():
            return CONFLICT
        case errors.CalendarError():
            return CALENDAR_AWAY
        case _:
            return BAD_INPUT


def main(arguments: Sequence[str] | None = None, clock: Callable[[], datetime] | None = None) -> NoReturn:
    """Run the command line; `clock` (aware) stands in for the time of day."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(arguments, obj=clock, prog_name="calsync", standalone_mode=True)
    except errors.CalsyncError as error:
        _fail(error, as_json="--json" in arguments)
    except Exception:  # a script must not take a defect for a conflict, and exit code 1 is Python's for both
        err.print_exception()
        raise SystemExit(DEFECT) from None
    raise SystemExit(DONE)
