"""Reading windows.toml and the environment into a `Config`.

`load` checks everything. It returns a `Config`, or raises `ConfigInvalid` with all mistakes at once, each with its key path
and what would be right. Secrets come from the environment only.

A setting of a plain section can come from the environment, which overrides the file: `calendar.url` is
`CALSYNC_CALENDAR_URL`, and `CALSYNC_CALENDAR_URL_FILE` names a file with the value. `CALSYNC_BUSY_ANA` is the address of
Ana's busy feed. An empty variable counts as not set; an empty file is a mistake.
"""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
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
_OPEN_CHANNEL = re.compile(
    r"ircs?://([^\s:@/?#]+@)?(\[[0-9a-f:]+\]|[^\s:@/?#]+)(:\d+)?/[^\s:@?]+(\?((auth|account)=[^\s&=]*&?)*)?", re.IGNORECASE
)
"""An IRC channel without a password or key, so without a secret."""
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

_LISTS: dict[str, type[Section]] = {"freezes": Freeze, "conductors": ConductorSection}

_SECRETS = {
    "username": "CALSYNC_CALENDAR_USERNAME",
    "password": "CALSYNC_CALENDAR_PASSWORD",
    "tokens": "CALSYNC_TOKENS",
    "token": "CALSYNC_TOKENS or CALSYNC_TICKETS_TOKEN",
}
"""Keys that people look for in windows.toml, and the variables to set instead."""


class _Environment:
    """The variables that are set, or whose `_FILE` is. Mistakes are added to `problems`."""

    def __init__(self, variables: Mapping[str, str], problems: list[str]) -> None:
        self._variables = {name: value for name, value in variables.items() if value.strip()}
        self._problems = problems

    def names(self, prefix: str) -> list[str]:
        """Return the variables that start with `prefix`, without `_FILE`."""
        return sorted({name.removesuffix("_FILE") for name in self._variables if name.startswith(prefix)})

    def origin(self, variable: str) -> str:
        """Return `variable`, or its `_FILE` if only that is set."""
        return variable if variable in self._variables else f"{variable}_FILE"

    def read(self, variable: str) -> str | None:
        """Return the value of the variable, or the content of the file that its `_FILE` names; None if neither is set."""
        value, file = self._variables.get(variable), self._variables.get(f"{variable}_FILE")
        if file is None:
            return value
        if value is not None:
            self._problems.append(f"{variable}: {variable}_FILE is set too; keep one of them")
        try:
            content = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._problems.append(f"{variable}_FILE: {error}")
            return None
        if not content:
            self._problems.append(f"{variable}_FILE: {file} is empty; write the value into it, or unset the variable")
        return content or None


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check the configuration at `path`, with the settings that the environment overrides.

    Raises `ConfigInvalid` with all mistakes, and `Invalid` if the file cannot be read.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise Invalid(f"{path} does not exist; name your configuration with --config FILE.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}.") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid([f"{path.name}: {error}"]) from None
    return parse(document, environ, folder=path.resolve().parent)


def parse(document: dict[str, Any], environ: Mapping[str, str], *, folder: Path = Path()) -> Config:
    """Check a parsed windows.toml like `load`; relative paths start from `folder`."""
    problems = list(_secrets_in(document.get("notify")))
    environment = _Environment(environ, problems)
    document = copy.deepcopy(document)
    if not isinstance(document.get("windows"), dict) or not document["windows"]:
        problems.append("windows: describe at least one window, as [windows.NAME]")
        document["windows"] = {}
    for key in _LISTS:
        if not isinstance(document.setdefault(key, []), list):
            problems.append(f"{key}: write each as a table of its own, [[{key}]]")
            document[key] = []
    _overlay_settings(document, environment)
    _overlay_feeds(document, environment, problems)
    tables = [*_SECTIONS, "windows", *_LISTS]
    problems += (f"{key}: {_unknown(key, tables)}" for key in sorted(document.keys() - set(tables)))
    parts: dict[str, Any] = {
        key: _section(section, document.get(key, {}), key, problems) for key, section in _SECTIONS.items()
    }
    # A mistaken entry becomes None, so that the others keep their numbers.
    for key, section in _LISTS.items():
        parts[key] = [_section(section, table, f"{key}[{n}]", problems) for n, table in enumerate(document[key])]
    parts["windows"] = {}
    for name, table in document["windows"].items():
        if not _NAME.fullmatch(name):
            problems.append(f'windows."{name}": use only lowercase letters, digits, "-" and "_" in the name')
        elif window := _section(WindowSection, table, f"windows.{name}", problems):
            parts["windows"][name] = window
    problems += _contradictions(document, parts)
    parts["tokens"] = _tokens(environment.read("CALSYNC_TOKENS") or "", problems)
    parts["ticket_token"] = (environment.read("CALSYNC_TICKETS_TOKEN") or "").strip() or None
    parts["username"] = environment.read("CALSYNC_CALENDAR_USERNAME")
    parts["password"] = environment.read("CALSYNC_CALENDAR_PASSWORD")
    if problems:
        raise ConfigInvalid(problems)
    return Config(**parts, folder=folder)


def _secrets_in(notify: object) -> Iterable[str]:
    """Yield the addresses in the file that may have a secret, as those of most services do."""
    for name, url in notify.items() if isinstance(notify, dict) else ():
        if isinstance(url, str) and "://" in url and not _OPEN_CHANNEL.fullmatch(url):
            yield (
                f"notify.{name}: keep secrets out of this file, which may only have IRC channels without password and key; "
                f"set CALSYNC_NOTIFY_{name.upper()} to the whole address"
            )


def _overlay_settings(document: dict[str, Any], environment: _Environment) -> None:
    """Put the settings that the environment has into `document`."""
    for name, section in _SECTIONS.items():
        for key, field in section.model_fields.items():
            text = environment.read(f"CALSYNC_{name}_{key}".upper())
            if text is not None and isinstance(table := document.setdefault(name, {}), dict):
                table[key] = _value(text, field)


def _value(text: str, field: FieldInfo) -> Any:
    """Parse a setting from the environment: a list or a table as TOML, a list of names with commas, or text."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return [part.strip() for part in text.split(",")] if isinstance(field.default, tuple) else text


def _overlay_feeds(document: dict[str, Any], environment: _Environment, problems: list[str]) -> None:
    """Put the addresses of busy feeds that the environment has into the roster."""
    conductors: dict[str, list[dict[str, Any]]] = {}
    for table, name in zip(document["conductors"], _names(document["conductors"]), strict=True):
        if name is not None:
            conductors.setdefault("CALSYNC_BUSY_" + re.sub(r"[^A-Z0-9]", "_", name.upper()), []).append(table)
    for variable in environment.names("CALSYNC_BUSY_"):
        match conductors.get(variable, []):
            case []:
                problems.append(
                    f"{variable}: no conductor has this name; write it in capitals, with _ for everything but A-Z and 0-9"
                )
            case [conductor]:
                if (address := environment.read(variable)) is None:
                    continue
                try:
                    conductor["calendar"] = feed_address(address)
                except ValueError as error:
                    problems.append(f"{environment.origin(variable)}: {error}")
                    conductor.pop("calendar", None)  # the environment overrides it
            case [first, second, *_]:
                problems.append(f'{variable}: is for "{first["name"]}" and for "{second["name"]}"; rename one of them')


def _tokens(text: str, problems: list[str]) -> dict[str, SecretStr]:
    """Parse `name:token` pairs, separated by commas or white space."""
    tokens: dict[str, SecretStr] = {}
    for pair in re.findall(r"[^\s,]+", text):
        name, _, token = pair.partition(":")
        if not name or not _TOKEN.fullmatch(token):
            problems.append("CALSYNC_TOKENS: write name:token pairs, separated by commas; a token has 8 characters or more")
        elif name in tokens:
            problems.append(f'CALSYNC_TOKENS: "{name}" appears twice; give each token its own name')
        else:
            tokens[name] = SecretStr(token)
    return tokens


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
    """Return one of pydantic's error details as a line `key.path: what would be right`."""
    where = path + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail["loc"])
    match detail["type"]:
        case "extra_forbidden" if detail["loc"][-1] in _SECRETS:
            return f"{where}: keep secrets out of this file; set {_SECRETS[detail['loc'][-1]]} instead"
        case "extra_forbidden":
            return f"{where}: {_unknown(detail['loc'][-1], [*section.model_fields])}"
        case "missing":
            return f"{where}: is missing"
        case "value_error":
            return f"{where}: {detail['ctx']['error']}"
        case _:
            expected = detail["msg"].removeprefix("Input ")
            if section is NotifySection:  # the input may be a secret
                return f"{where}: {expected}"
            return f"{where}: {expected}, not {_shown(detail['input'])}"


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, date | time) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _unknown(key: str, settings: list[str]) -> str:
    near = difflib.get_close_matches(key, settings, n=1)
    return "is not a setting; " + (f'did you mean "{near[0]}"?' if near else _one_of(settings))


def _one_of(names: Collection[str]) -> str:
    return f"use one of {', '.join(names)}" if names else "there are none"


def _names(tables: Sequence[object]) -> list[str | None]:
    """Return the name of each table, mistaken tables too; None for those without."""
    names = (table.get("name") if isinstance(table, dict) else None for table in tables)
    return [name if isinstance(name, str) else None for name in names]


def _train_windows(train: object) -> list[str]:
    """Return the names that `train.windows` lists, in a mistaken section too."""
    names = train.get("windows", TrainSection().windows) if isinstance(train, dict) else TrainSection().windows
    return [name for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []


def _contradictions(document: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterable[str]:
    """Yield the mistakes that no section can see by itself; in `parts`, mistaken sections are None."""
    if parts["train"] is not None:
        yield from _train_contradictions(parts["train"], parts["windows"], document["windows"])
    for n, freeze in enumerate(parts["freezes"]):
        if freeze is not None:
            yield from _freeze_contradictions(f"freezes[{n}]", freeze)
    train_windows, names = _train_windows(document.get("train")), _names(document["conductors"])
    for n, (name, conductor) in enumerate(zip(names, parts["conductors"], strict=True)):
        if name is not None and name in names[:n]:
            yield f'conductors[{n}].name: "{name}" appears twice; give each person a unique name'
        if conductor is not None and conductor.window is not None and conductor.window not in train_windows:
            yield f'conductors[{n}].window: "{conductor.window}" is not a train window; {_one_of(train_windows)}'
    if parts["rotation"] is not None:
        yield from _rotation_contradictions(parts["rotation"], {name for name in names if name is not None})
    if parts["conflicts"] is not None:
        yield from _conflicts_contradictions(parts["conflicts"])
    if parts["calendar"] is not None:
        yield from _calendar_contradictions(parts["calendar"])


def _calendar_contradictions(calendar: CalendarSection) -> Iterable[str]:
    if max(calendar.horizon.past, calendar.horizon.future) > timedelta(days=3660):
        yield 'calendar.horizon: must be at most ten years back and ahead, for example "400d"'
    if calendar.interval < timedelta(milliseconds=100):
        yield 'calendar.refresh: must be at least 100ms, for example "1s"'
    if not timedelta(seconds=1) <= calendar.timeout <= timedelta(minutes=5):
        yield 'calendar.timeout: must be between 1s and 5m, for example "10s"'
    if calendar.invite and calendar.organizer is None:
        yield "calendar.organizer: is missing; set the mail address that invitations come from"


def _conflicts_contradictions(conflicts: ConflictsSection) -> Iterable[str]:
    if {"block", "warn"} <= conflicts.model_fields_set:
        for kind in sorted(set(conflicts.block) & set(conflicts.warn)):
            yield f'conflicts.warn: "{kind}" is in conflicts.block too; keep it in one of them'
    if "reserved" in conflicts.warn:
        yield 'conflicts.warn: "reserved" always blocks, because no week can be reserved twice; remove it'
    if conflicts.shortest_busy > timedelta(hours=12):
        yield "conflicts.shortest_busy: must be 12h or less (usually under 1h), so that full-day absences still count"


def _train_contradictions(
    train: TrainSection, windows: Mapping[str, WindowSection], names: Collection[str]
) -> Iterable[str]:
    """Yield the mistakes of `[train]` with these windows; `names` has those of mistaken windows too."""
    if not train.windows:
        yield "train.windows: name at least one window"
    if len(set(train.windows)) < len(train.windows):
        yield "train.windows: name each window once"
    for name in train.windows:
        if name not in names:
            yield f'train.windows: "{name}" is not a window; {_one_of(names)}'
    if not train.stages:
        yield 'train.stages: name at least one day, such as { tue = "group0" }'
    for day in train.stages:
        if day not in WEEKDAYS:
            yield f"train.stages.{day}: is not a weekday; {_one_of(WEEKDAYS)}"
    if train.ticket_url is not None and not re.match(r"https?://.*\{ticket\}", train.ticket_url):
        yield "train.ticket_url: write a web address with {ticket} in it"
    if train.video_url is not None and not re.match(r"https?://[^\s/]+", train.video_url):
        yield 'train.video_url: write a web address such as "https://meet.example.org/train-{week}"'
    for name, window in windows.items():
        if name in train.windows and window.days is not None:
            yield f"windows.{name}.days: a train window has the days of train.stages; remove days"
        if name not in train.windows and window.days is None:
            yield f'windows.{name}.days: is missing; only train windows have the days of train.stages. Set days = ["mon"]'


def _rotation_contradictions(rotation: RotationSection, roster: Collection[str]) -> Iterable[str]:
    for n, name in enumerate(rotation.order):
        if name not in roster:
            yield f'rotation.order[{n}]: "{name}" is not in the roster; {_one_of(sorted(roster))}'
        if name in rotation.order[:n]:
            yield f'rotation.order[{n}]: "{name}" appears twice; name each person once'
    if len(rotation.order) == 1:
        yield "rotation.order: name at least two people, because each week has a primary and a backup"
    if bool(rotation.order) != (rotation.start is not None):
        yield 'rotation: set both order and start, such as start = "2026-W49"'


def _freeze_contradictions(path: str, freeze: Freeze) -> Iterable[str]:
    if freeze.days is not None:
        if freeze.start is not None or freeze.end is not None:
            yield f"{path}: set either start and end, or days, not both"
        return
    if freeze.start is None or freeze.end is None:
        yield f"{path}: set start and end (dates, both included), or the days of every week"
        return
    if isinstance(freeze.start, datetime) != isinstance(freeze.end, datetime):
        yield f"{path}: set start and end in the same form, both dates or both date-times"
        return
    try:
        start, end = freeze_span(freeze)
    except OverflowError:
        yield f"{path}: start or end is too far away; choose years from {FIRST_YEAR} to {LAST_YEAR}"
        return
    if end <= start:
        yield f"{path}.end: {freeze.end} is before the start; swap them"
