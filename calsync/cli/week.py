"""The commands for the pair's week: rotation, away, handoff, update, announce."""

from __future__ import annotations

import logging
import re
import signal
import threading
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated

import typer

from calsync.booking import absences
from calsync.booking.handoff import hand_off
from calsync.booking.rotation import FAILED, reserve_weeks
from calsync.cli.errors import CONFLICT
from calsync.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, WeekArgument
from calsync.cli.output import (
    err,
    out,
    plain,
    print_json,
    show_away,
    show_conflicts,
    show_deliveries,
    show_reserved,
    show_rotation,
)
from calsync.cli.session import author, conductor, open_session, time_of
from calsync.core.errors import Invalid
from calsync.core.rotation import check_weeks
from calsync.core.settings import parse_duration
from calsync.core.timezones import resolve, zone
from calsync.core.weeks import Week
from calsync.notifications import announcer
from calsync.notifications.destinations import Destinations, missing_secrets
from calsync.notifications.dispatcher import Dispatcher, send_handoff
from calsync.notifications.updates import post_update
from calsync.schedule.absences import known_person, list_absences, unknown_absences
from calsync.schedule.rotation import rotation
from calsync.schemas.week import AwayOut, HandoffOut, ReservedOut, RotationOut, UpdateOut

commands = typer.Typer()


@commands.command(name="rotation", epilog="Example: calsync rotation --weeks 12 --reserve")
def rotation_command(
    context: typer.Context,
    weeks: Annotated[int, typer.Option(help="How many weeks.")] = 12,
    reserve: Annotated[bool, typer.Option("--reserve", help="Reserve every coming week that is free.")] = False,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say who conducts in the coming weeks, or reserve these weeks; exit with 1 if a week could not be reserved."""
    check_weeks(weeks)
    with open_session(context, file, needs="nothing" if reserve else "copy") as session:
        if not reserve:
            coming = rotation(session.sync.agenda, session.now, weeks)
            if as_json:
                print_json(RotationOut.of(coming))
            else:
                show_rotation(coming)
            return
        reserved = []
        try:
            for week in reserve_weeks(session.sync, weeks, session.now, author=author()):
                reserved.append(week)
                if not as_json:
                    show_reserved(week)
        finally:  # also print what was reserved before the calendar went away
            if as_json and reserved:
                print_json([ReservedOut.of(week) for week in reserved])
    if any(week.result in FAILED for week in reserved):
        raise typer.Exit(CONFLICT)


@commands.command(name="away", epilog='Example: calsync away conductor-eu 2026-12-01 2026-12-02 --note "conference"')
def away_command(
    context: typer.Context,
    who: Annotated[str | None, typer.Argument(help="A name of the roster or of a pair.", show_default=False)] = None,
    start: Annotated[str | None, typer.Argument(help="A date, a week, or a time such as 2026-12-01T14:00.")] = None,
    end: Annotated[str | None, typer.Argument(help="The last day, a week for its last day, or the end.")] = None,
    note: Annotated[str | None, typer.Option(help="The reason, for people to read.")] = None,
    remove: Annotated[str | None, typer.Option(help="Remove the absence with this id.", metavar="ID")] = None,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Add an absence to the calendar, and say who could cover; without a start, list the absences."""
    with open_session(context, file, needs="copy" if start is None and remove is None else "calendar") as session:
        if remove is not None:
            absences.remove_absence(session.sync, remove, session.now)
            if as_json:
                print_json({"id": remove, "removed": True})
            else:
                out.print(f"[green]The absence {plain(remove)} is removed.[/]")
            return
        unknown: Sequence[str] = ()
        person = known_person(session.sync.agenda, who) if who is not None else None
        if who is None or person is None or start is None:
            away = [
                absence
                for absence in list_absences(session.sync.agenda, session.now)
                if who in (None, absence.record.conductor)
            ]
            unknown = unknown_absences(session.sync.agenda, session.now, who)
        else:
            first, last = _span(start, end, person.timezone)
            why = _line(note) if note else None
            away = [absences.add_absence(session.sync, who, first, last, session.now, note=why, author=author())]
    if as_json:
        print_json([AwayOut.model_validate(absence) for absence in away])
    else:
        for absence in away:
            show_away(absence)
    for sentence in unknown:
        (err if as_json else out).print(f"[yellow]![/] {plain(sentence)}", soft_wrap=True)
    if not away and not unknown and not as_json:
        out.print(f"{plain(who or 'Nobody')} is {'not ' if who else ''}away.")


@commands.command(name="handoff", epilog='Example: calsync handoff 2026-W49 conductor-us --note "blocked on T400002"')
def handoff_command(
    context: typer.Context,
    week: WeekArgument,
    to: Annotated[str, typer.Argument(help="Who takes over: a name of the roster, or NAME@TIMEZONE.")],
    note: Annotated[str, typer.Option(help="What they have to know; goes to the ticket and the log.")],
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Hand the train to somebody else from now on: on the calendar, the ticket and the operations channel."""
    with open_session(context, file, needs="nothing", refresh_feeds=False) as session:
        destinations, which = Destinations.of(session.config), Week.parse(week)
        nameless = Invalid("Give the name of who takes over; a timezone alone is not enough.")
        if not to.strip("@ "):
            raise nameless
        person = conductor(session.config, to, "primary")
        if person.name == "primary":
            raise nameless
        handoff = hand_off(session.sync, destinations.missing, which, person, _line(note), session.now, author=author())
        handoff, sent = send_handoff(Dispatcher(session.sync, destinations), handoff, session.now)
    if as_json:
        print_json(HandoffOut.of(handoff, sent))
        return
    show_conflicts(handoff.outcome.warnings, ())
    out.print(f"[green]{person.name} is now responsible for {which}.[/]")
    show_deliveries(sent)


@commands.command(name="update", epilog='Example: calsync update 2026-W49 "group1 is out" --from conductor-eu')
def update_command(
    context: typer.Context,
    week: WeekArgument,
    text: Annotated[str, typer.Argument(help="The news.")],
    sender: Annotated[str, typer.Option("--from", help="Who of the pair sends it.")],
    decision: Annotated[
        bool, typer.Option("--decision", help="It decides something, so it goes to the ticket and the log.")
    ] = False,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Send news to the partner: to the channel, or to the ticket outside their working hours."""
    with open_session(context, file, needs="nothing") as session:
        dispatcher, which = Dispatcher(session.sync, Destinations.of(session.config)), Week.parse(week)
        update = post_update(dispatcher, which, sender, _line(text), session.now, decision=decision)
        sent = dispatcher.deliver(update.href, update.correlation_id, session.now)
    if as_json:
        print_json(UpdateOut.of(str(which), update, sent))
        return
    out.print(f"Why: {plain(update.route.reason)}.", soft_wrap=True)
    show_deliveries(sent)


@commands.command(epilog="Example: calsync announce --before 10m")
def announce(
    context: typer.Context,
    before: Annotated[str, typer.Option(help="Also announce each slot that long before; 0m for starts only.")] = "10m",
    file: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Announce the start of each reserved slot in the operations channel until stopped; retry unsent messages."""
    try:
        ahead = parse_duration(before)
    except ValueError as error:
        raise Invalid(f"--before: {error}.") from None
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda _signal, _frame: stop.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with open_session(context, file, needs="nothing", refresh_feeds=False) as session:
        destinations = Destinations.of(session.config)
        if destinations.channels.operations is None:
            raise Invalid("There is no channel for announcements; set notify.operations or CALSYNC_NOTIFY_OPERATIONS.")
        for sentence in missing_secrets(session.config):
            logging.getLogger("calsync").warning("%s", sentence)
        dispatcher = Dispatcher(session.sync, destinations)
        announcer.run(dispatcher, lambda: time_of(context), stop.wait, ahead)


def _line(text: str) -> str:
    """Return a text that a shell may have broken into lines as one line."""
    return " ".join(text.split())


def _span(start: str, end: str | None, timezone: str) -> tuple[date, date]:
    """Return the start and the end of an absence: dates, both included, or times. Without `end`, a day or a whole week."""
    first, last = _edges(start, timezone)
    if end is not None:
        last = _edges(end, timezone)[1]
        _check_clocks(start, first, end, last, timezone)
        return first, last
    if isinstance(first, datetime):
        raise Invalid("A time needs an end; write it after the start, such as 2026-12-01T14:00 2026-12-01T15:30.")
    return first, last


def _check_clocks(start: str, first: date, end: str, last: date, timezone: str) -> None:
    """Refuse a span that is in order as written, but is not on the clocks, because they skip its start."""
    if start == end or not isinstance(first, datetime) or not isinstance(last, datetime) or first < last:
        return
    wall = datetime.fromisoformat(start)
    if wall.tzinfo is None and resolve(wall, zone(timezone))[1] == "skipped":
        raise Invalid(
            f"The clocks of {timezone} skip {start}, so it counts as {first:%H:%M}, and {end} is not later; "
            "choose a later end."
        )
    if first == last:
        raise Invalid(f"{start} and {end} are the same time on the clocks of {timezone}; choose a later end.")


def _edges(text: str, timezone: str) -> tuple[date, date]:
    """Return the first and the last day of a week, or a date or time twice."""
    if re.fullmatch(r"\d{4}-?W\d{2}", text, re.ASCII | re.IGNORECASE):
        week = Week.parse(text)
        return week.monday, week.day("sun")
    moment = _moment(text, timezone)
    return moment, moment


def _moment(text: str, timezone: str) -> date:
    """Parse a date or a time; a time without an offset is on the clocks of `timezone`."""
    try:
        if len(text) <= 10:
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            f'"{text[:40]}" is not a date, a week or a time; write 2026-12-01, 2026-W49 or 2026-12-01T14:00.'
        ) from None
    return moment if moment.tzinfo is not None else resolve(moment, zone(timezone))[0]
