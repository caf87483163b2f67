"""windows.toml → typed configuration.

`load` reads the file and the environment, checks everything, and either returns a `Config` or raises `ConfigInvalid` with
every mistake at once, each with its key path and what would be right. Secrets come from the environment alone.

Any setting of a plain section can come from the environment instead: `calendar.url` is `CALSYNC_CALENDAR_URL`, and
`CALSYNC_CALENDAR_URL_FILE` names a file that holds it. `CALSYNC_BUSY_ANA` is the address of Ana's busy feed. A
variable that is empty is as good as not set; a file that is named and empty is a mistake.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from calsync.core.errors import ConfigInvalid, Invalid
from calsync.core.settings import (
    CalendarSection,
    ConductorSection,
    Config,
    ConflictsSection,
    Freeze,
    NotifySection,
    RotationSection,
    Section,
    ServerSection,
    TicketsSection,
    TrainSection,
    WindowSection,
    feed_address,
    freeze_span,
)
from calsync.core.weeks import FIRST_YEAR, LAST_YEAR, WEEKDAYS

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)


_FAR = timedelta(days=3660)


_HALF_A_DAY = timedelta(hours=12)


_FEED = "CALSYNC_BUSY_"


_OPEN_CHANNEL = re.compile(
    r"ircs?://([^\s:@/?#]+@)?(\[[0-9a-f:]+\]|[^\s:@/?#]+)(:\d+)?/[^\s:@?]+(\?((auth|account)=[^\s&=]*&?)*)?", re.IGNORECASE
)


_TOKEN = re.compile(r"[!-~]{8,}", re.ASCII)


_SECTIONS: dict[str, type[Section]] = {
    "calendar": CalendarSection,
    "train": TrainSection,
    "conflicts": ConflictsSection,
    "server": ServerSection,
    "rotation": RotationSection,
    "notify": NotifySection,
    "tickets": TicketsSection,
}


_TABLES: dict[str, type[Section]] = {"windows": WindowSection, "freezes": Freeze, "conductors": ConductorSection}


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check the configuration at `path`, with what the environment overrides.

    Raises `ConfigInvalid` with every mistake, and `Invalid` where the file cannot be read.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise Invalid(f"There is no {path}; name your configuration with --config FILE.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}.") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid([f"{path.name}: {error}"]) from None
    return parse(document, environ, folder=path.resolve().parent)


def parse(document: Mapping[str, Any], environ: Mapping[str, str], *, folder: Path = Path()) -> Config:
    """Check a parsed windows.toml; see `load`. `folder` is where relative files are found."""
    problems: list[str] = []
    document = dict(document)
    problems += _secrets_in(document.get("notify"))
    tokens = _overlay_environment(document, environ, problems)
    _overlay_feeds(document, environ, problems)
    username = _from_environment("CALSYNC_CALENDAR_USERNAME", environ, problems)
    password = _secret("CALSYNC_CALENDAR_PASSWORD", environ, problems)
    parts: dict[str, Any] = {}
    ticket_token = _from_environment("CALSYNC_TICKETS_TOKEN", environ, problems)
    strange = sorted(document.keys() - _SECTIONS.keys() - _TABLES.keys())
    problems += (f"{key}: " + _unknown(key, [*_SECTIONS, *_TABLES]) for key in strange)
    for key, section in _SECTIONS.items():
        parts[key] = _section(section, document.get(key, {}), key, problems)
    windows = document.get("windows", {})
    if not isinstance(windows, dict) or not windows:
        problems.append("windows: describe at least one window, as [windows.NAME]")
        windows = {}
    parts["windows"] = {}
    for name, table in windows.items():
        if not _NAME.fullmatch(name):
            problems.append(f'windows."{name}": name it with small letters, digits, "-" and "_"')
        elif window := _section(WindowSection, table, f"windows.{name}", problems):
            parts["windows"][name] = window
    for key in ("freezes", "conductors"):
        entries = document.get(key, [])
        if not isinstance(entries, list):
            problems.append(f"{key}: write each as a table of its own, [[{key}]]")
            entries = []
        # An unsound entry keeps its place, so that the others keep their numbers.
        parts[key] = [_section(_TABLES[key], entry, f"{key}[{n}]", problems) for n, entry in enumerate(entries)]
    train = parts["train"]
    named = train.windows if train is not None else _named(document["train"])
    problems += _contradictions(parts, windows, named, _roster(document.get("conductors")))
    if problems:
        raise ConfigInvalid(problems)
    secret = SecretStr(ticket_token.strip()) if ticket_token else None
    return Config(**parts, tokens=tokens, username=username, password=password, ticket_token=secret, folder=folder)


def _named(train: object) -> list[str]:
    """The train windows that an unsound `[train]` names."""
    windows = train.get("windows") if isinstance(train, dict) else None
    return [name for name in windows if isinstance(name, str)] if isinstance(windows, list) else [*TrainSection().windows]


def _roster(entries: object) -> list[str | None]:
    """The name of each entry of the roster, unsound ones too; None where it gives none."""
    names = (
        entry.get("name") if isinstance(entry, dict) else None for entry in (entries if isinstance(entries, list) else [])
    )
    return [name if isinstance(name, str) else None for name in names]


def _secrets_in(notify: object) -> Iterable[str]:
    """The addresses in the file itself that hold a secret, or may: of most services some part of it is one."""
    for name, url in notify.items() if isinstance(notify, dict) else ():
        if isinstance(url, str) and "://" in url and not _OPEN_CHANNEL.fullmatch(url):
            variable = f"CALSYNC_NOTIFY_{name.upper()}"
            yield (
                f"notify.{name}: secrets do not stand in this file, but only an IRC channel without password and key; "
                f"write the whole address into {variable}"
            )


def _overlay_feeds(document: dict[str, Any], environ: Mapping[str, str], problems: list[str]) -> None:
    """Put the addresses of busy feeds that the environment has into the roster."""
    known = {name.removesuffix("_FILE") for name, value in environ.items() if name.startswith(_FEED) and value.strip()}
    entries = document.get("conductors")
    roster = [dict(entry) if isinstance(entry, dict) else entry for entry in (entries if isinstance(entries, list) else [])]
    taken: dict[str, str] = {}
    for entry in roster:
        name = str(entry.get("name", "")) if isinstance(entry, dict) else ""
        variable = _FEED + re.sub(r"[^A-Z0-9]", "_", name.upper())
        if variable not in known:
            continue
        if variable in taken:
            problems.append(f'{variable}: is "{taken[variable]}" and "{name}" alike; give one of them another name')
        taken[variable] = name
        if (url := _from_environment(variable, environ, problems)) is None:
            continue
        try:
            entry["calendar"] = feed_address(url)
        except ValueError as error:
            named = variable if environ.get(variable, "").strip() else f"{variable}_FILE"
            problems.append(f"{named}: {error}")
            entry.pop("calendar", None)  # which it goes before
    problems += (
        f"{variable}: nobody of the roster has this name; write it in capitals, with _ for all but A-Z and digits"
        for variable in sorted(known - taken.keys())
    )
    if taken:
        document["conductors"] = roster


def _section(section: type[Section], table: object, path: str, problems: list[str]) -> Any:
    if not isinstance(table, dict):
        problems.append(f"{path}: write it as a table")
        return None
    try:
        return section.model_validate(table)
    except ValidationError as error:
        problems += (_sentence(section, path, detail) for detail in error.errors())
        return None


def _sentence(section: type[Section], path: str, detail: Any) -> str:
    """One of pydantic's findings as a line `key.path: what would be right`."""
    where = path + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail["loc"])
    match detail["type"]:
        case "extra_forbidden" if detail["loc"][-1] in ("username", "password", "tokens", "token"):
            return (
                f"{where}: secrets do not stand in this file; they come from CALSYNC_TOKENS, CALSYNC_CALENDAR_USERNAME and "
                "CALSYNC_CALENDAR_PASSWORD"
            )
        case "extra_forbidden":
            return f"{where}: " + _unknown(str(detail["loc"][-1]), list(section.model_fields))
        case "missing":
            return f"{where}: is missing"
        case "value_error":
            return f"{where}: {detail['ctx']['error']}"
        case _:
            said = detail["msg"].removeprefix("Input ")
            if section is NotifySection:  # what stands there may be a secret
                return f"{where}: {said}"
            return f"{where}: {said}, not {_shown(detail['input'])}"


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, date | time) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return "is not a setting; " + (f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}")


def _contradictions(
    parts: Mapping[str, Any], windows: Mapping[str, Any], named: Sequence[str], roster: Sequence[str | None]
) -> Iterable[str]:
    """What no section can see by itself; unsound parts are None.

    `windows` has the unsound windows too, `named` the names of train windows, and `roster` those of all its entries.
    """
    train: TrainSection | None = parts["train"]
    if train is not None:
        yield from _train_contradictions(train, parts["windows"], windows)
    for n, freeze in enumerate(parts["freezes"]):
        if freeze is not None:
            yield from _freeze_contradictions(f"freezes[{n}]", freeze)
    seen: set[str] = set()
    for n, (name, conductor) in enumerate(zip(roster, parts["conductors"], strict=True)):
        if name is not None and name in seen:
            yield f'conductors[{n}].name: "{name}" is there already; give each person a name of their own'
        if name is not None:
            seen.add(name)
        if conductor is not None and conductor.window is not None and conductor.window not in named:
            yield f'conductors[{n}].window: "{conductor.window}" is not a train window; ' + _of(named)
    if parts["rotation"] is not None:
        yield from _rotation_contradictions(parts["rotation"], seen)
    conflicts: ConflictsSection | None = parts["conflicts"]
    if conflicts is not None and {"block", "warn"} <= conflicts.model_fields_set:
        for kind in sorted(set(conflicts.block) & set(conflicts.warn)):
            yield f'conflicts.warn: "{kind}" is in conflicts.block too; keep it in one of them'
    if conflicts is not None and "reserved" in conflicts.warn:
        yield 'conflicts.warn: "reserved" always blocks, since no week is reserved twice; take it out'
    if conflicts is not None and conflicts.shortest_busy > _HALF_A_DAY:
        yield 'conflicts.shortest_busy: ask for twelve hours at most, so that whole days away always count; "1h" is long'
    if parts["calendar"] is not None:
        yield from _calendar_contradictions(parts["calendar"])


def _calendar_contradictions(calendar: CalendarSection) -> Iterable[str]:
    if max(calendar.horizon.past, calendar.horizon.future) > _FAR:
        yield 'calendar.horizon: look at most ten years back and ahead; "400d" is far'
    if calendar.interval < timedelta(milliseconds=100):
        yield 'calendar.refresh: refresh at most ten times a second; "1s" is quick'
    if not timedelta(seconds=1) <= calendar.timeout <= timedelta(minutes=5):
        yield 'calendar.timeout: wait for a second at least and five minutes at most; "10s" is patient'
    if calendar.invite and calendar.organizer is None:
        yield "calendar.organizer: is missing; invitations need the mail address that they come from"


def _train_contradictions(
    train: TrainSection, sound: Mapping[str, WindowSection], windows: Mapping[str, Any]
) -> Iterable[str]:
    if not train.windows:
        yield "train.windows: name at least one window"
    if len(set(train.windows)) < len(train.windows):
        yield "train.windows: name each window once"
    for name in train.windows:
        if name not in windows:
            yield f'train.windows: "{name}" is not a window; ' + _of(windows)
    if not train.stages:
        yield 'train.stages: name at least one day, such as { tue = "group0" }'
    for day in train.stages:
        if day not in WEEKDAYS:
            yield f"train.stages.{day}: is not a weekday; there are {', '.join(WEEKDAYS)}"
    if train.ticket_url is not None and not re.match(r"https?://.*\{ticket\}", train.ticket_url):
        yield "train.ticket_url: write a web address with {ticket} in it"
    if train.video_url is not None and not re.match(r"https?://[^\s/]+", train.video_url):
        yield 'train.video_url: write a web address such as "https://meet.example.org/train-{week}"'
    for name, window in sound.items():
        if name in train.windows and window.days is not None:
            yield f"windows.{name}.days: a train window has the days of train.stages; leave days out"
        if name not in train.windows and window.days is None:
            yield f'windows.{name}.days: is missing; a window outside train.windows needs its days, such as ["mon"]'


def _rotation_contradictions(rotation: RotationSection, roster: Iterable[str]) -> Iterable[str]:
    roster = sorted(roster)
    for n, name in enumerate(rotation.order):
        if name not in roster:
            yield f'rotation.order[{n}]: "{name}" is nobody of the roster; ' + _of(roster)
        if name in rotation.order[:n]:
            yield f'rotation.order[{n}]: "{name}" is there already; name each person once'
    if len(rotation.order) == 1:
        yield "rotation.order: name at least two people, since each week has a primary and a backup"
    if bool(rotation.order) != (rotation.start is not None):
        yield 'rotation: give order and start together, such as start = "2026-W49"'


def _freeze_contradictions(path: str, freeze: Freeze) -> Iterable[str]:
    if freeze.days is not None:
        if freeze.start is not None or freeze.end is not None:
            yield f"{path}: give either start and end, or days, not both"
        return
    if freeze.start is None or freeze.end is None:
        yield f"{path}: give start and end (dates, both included), or days of every week"
        return
    if isinstance(freeze.start, datetime) != isinstance(freeze.end, datetime):
        yield f"{path}: give start and end in the same form, both dates or both date-times"
        return
    try:
        start, end = freeze_span(freeze)
    except OverflowError:
        yield f"{path}: start or end is too far away; choose years from {FIRST_YEAR} to {LAST_YEAR}"
        return
    if end <= start:
        yield f"{path}.end: {freeze.end} is before the start; swap them"


def _of(names: Iterable[str]) -> str:
    return "there are " + ", ".join(names) if names else "there is none"


def _overlay_environment(document: dict[str, Any], environ: Mapping[str, str], problems: list[str]) -> dict[str, SecretStr]:
    """Put the settings that the environment names into `document`; returns the tokens, by the name of who holds each."""
    known = {f"CALSYNC_{s}_{k}".upper(): (s, k) for s, section in _SECTIONS.items() for k in section.model_fields}
    for variable in sorted(environ):
        setting = variable.removesuffix("_FILE")
        if setting not in known or (value := _from_environment(setting, environ, problems)) is None:
            continue
        section, key = known[setting]
        table = document.get(section, {})
        document[section] = {
            **(table if isinstance(table, dict) else {}),
            key: _value(value, _SECTIONS[section].model_fields[key]),
        }
    tokens: dict[str, SecretStr] = {}
    for pair in re.split(r"[\s,]+", (_from_environment("CALSYNC_TOKENS", environ, problems) or "").strip()):
        name, colon, token = pair.partition(":")
        if pair and not (name and colon and _TOKEN.fullmatch(token)):
            problems.append(
                "CALSYNC_TOKENS: write name:token pairs, separated by commas, each token of 8 characters or more"
            )
        elif name in tokens:
            problems.append(f'CALSYNC_TOKENS: "{name}" is there twice; give each token a name of its own')
        elif pair:
            tokens[name] = SecretStr(token)
    return tokens


def _from_environment(variable: str, environ: Mapping[str, str], problems: list[str]) -> str | None:
    """What the variable says, or the file that its `_FILE` names; None where they are not set, or empty.

    A file that is named and has nothing in it is a mistake: its secret has gone astray.
    """
    value, file = (environ.get(name, "") for name in (variable, f"{variable}_FILE"))
    if not file.strip():
        return value if value.strip() else None
    if value.strip():
        problems.append(f"{variable}: is set, and {variable}_FILE too; keep one of them")
    try:
        found = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{variable}_FILE: {error}")
        return None
    if not found:
        problems.append(f"{variable}_FILE: {file} is empty; write what is meant into it, or do not set the variable")
    return found or None


def _secret(variable: str, environ: Mapping[str, str], problems: list[str]) -> SecretStr | None:
    value = _from_environment(variable, environ, problems)
    return None if value is None else SecretStr(value)


def _value(text: str, field: FieldInfo) -> Any:
    """A setting from the environment: TOML where it is a list or a table, otherwise text; commas part a list too."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return [part.strip() for part in text.split(",")] if isinstance(field.default, tuple) else text
