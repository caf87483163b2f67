import re
import tomllib
from datetime import date, timedelta

import pytest

from calsync.core.config import load, parse
from calsync.core.errors import ConfigInvalid, Invalid
from calsync.core.settings import freeze_span
from calsync.core.weeks import Week
from support.samples import SHIPPED, configured, utc

SECRET = "s3cret-token"


def problems(document="", environ=None, *, base=True):
    """Return the mistakes of a windows.toml; with `base`, it also has one correct window."""
    train = '[train]\nwindows = ["european"]\n[windows.european]\ntitle = "E"\ntimezone = "Europe/Paris"\n'
    train += "start = 10:00:00\nend = 12:00:00\n"
    text = document if not base else document + "\n" + train
    try:
        parse(tomllib.loads(text), environ or {})
    except ConfigInvalid as invalid:
        return list(invalid.problems)
    return []


def test_the_shipped_file_loads():
    config = load(SHIPPED, {})
    assert config.train.windows == ("european", "american")
    assert config.train.days == ("tue", "wed", "thu")
    assert config.calendar.name == "Deployments"
    assert config.calendar.horizon.past == timedelta(days=90)
    assert config.declined == {Week(2026, 52): "end-of-year holidays", Week(2026, 53): "end-of-year holidays"}
    assert config.folder == SHIPPED.parent
    assert config.tokens == {}


def test_one_window_is_all_that_a_file_needs():
    assert problems() == []


BROKEN = """
colour = "blue"
[calendar]
url = "mysql://x"
refresh = "often"
password = "secret"
nmae = "Deployments"
[train]
windows = ["european", "asian", "european"]
stages = { tuesday = "group0" }
backup_slots = "some"
ticket_url = "https://example.org/"
no_train = [{ week = "2026-W99", reason = "x" }]
[windows.european]
title = "E"
timezone = "Europe/Pariss"
start = "ten"
end = 12:00:00
[windows.backport]
title = "S"
timezone = "UTC"
start = 10:00:00
end = 11:00:00
[windows."Bad Name"]
title = "B"
[windows.half]
title = "H"
days = ["monday"]
[[freezes]]
reason = "x"
[[freezes]]
start = 2026-12-02
end = 2026-12-01
reason = "x"
[[freezes]]
start = 2026-12-02
end = 2026-12-02T10:00:00
reason = "x"
[[freezes]]
start = 2026-12-02
end = 2026-12-03
days = ["mon"]
reason = "x"
scope = "some"
[[conductors]]
name = "a"
timezone = "Paris"
hours = "9 to 5"
[[conductors]]
name = "b"
timezone = "UTC"
[[conductors]]
name = "b"
timezone = "UTC"
window = "nowhere"
[conflicts]
block = ["overlap", "everything"]
buffer = "-5m"
"""

EXPECTED = [
    r"colour: is not a setting; use one of calendar, ",
    r"calendar\.url: .*sqlite:///FILE\.db",
    r'calendar\.refresh: write a whole number and a unit, such as "30s"',
    r"calendar\.password: .* set CALSYNC_CALENDAR_PASSWORD",
    r'calendar\.nmae: is not a setting; did you mean "name"\?',
    r"train\.backup_slots: .*'all' or 'after-primary'",
    r"train\.no_train\[0\]\.week: 2026-W99 does not exist; 2026 has the weeks W01 to W53",
    r'windows\.european\.timezone: "Europe/Pariss" is not a timezone; did you mean "Europe/Paris"',
    r"windows\.european\.start: write a wall-clock time such as 10:00:00",
    r'windows\."Bad Name": use only lowercase letters',
    r"windows\.half\.timezone: is missing",
    r"windows\.half\.days: list weekdays .* mon, tue",
    r"freezes\[0\]: set start and end",
    r"freezes\[1\]\.end: 2026-12-01 is before the start; swap them",
    r"freezes\[2\]: set start and end in the same form",
    r"freezes\[3\]\.scope: ",
    r'conductors\[0\]\.timezone: .*did you mean "Europe/Paris"',
    r'conductors\[0\]\.hours: .*"09:00-18:00"',
    r'conductors\[2\]\.name: "b" appears twice',
    r'conductors\[2\]\.window: "nowhere" is not a train window; use one of',
    r"conflicts\.block\[1\]: .*'overlap'",
    r"conflicts\.buffer: write a whole number",
]


def test_all_mistakes_are_reported_at_once_with_key_and_remedy():
    mistakes = problems(BROKEN, base=False)
    assert [pattern for pattern in EXPECTED if not any(re.match(pattern, line) for line in mistakes)] == []
    assert not any("secret" in line.replace("secrets", "") for line in mistakes)


@pytest.mark.parametrize(
    ("train", "remedy"),
    [
        ({"windows": []}, "train.windows: name at least one window"),
        ({"windows": ["european", "european"]}, "train.windows: name each window once"),
        ({"windows": ["asian"]}, 'train.windows: "asian" is not a window; use one of european, american'),
        ({"stages": {}}, "train.stages: name at least one day"),
        ({"stages": {"tuesday": "group0"}}, "train.stages.tuesday: is not a weekday"),
        ({"ticket_url": "https://example.org/"}, "train.ticket_url: write a web address with {ticket} in it"),
        ({"ticket_url": "javascript:{ticket}"}, "train.ticket_url: write a web address with {ticket} in it"),
        ({"windows": "european"}, "train.windows: "),
        ({"no_train": [{"week": "2026-W52"}]}, "train.no_train[0].reason: is missing"),
    ],
)
def test_an_invalid_train_is_refused(train, remedy):
    with pytest.raises(ConfigInvalid) as refusal:
        configured(train=train)
    assert any(line.startswith(remedy) for line in refusal.value.problems)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[conflicts]\nblock = ['hours']\nwarn = ['hours']", 'conflicts.warn: "hours" is in conflicts.block too'),
        ("[conflicts]\nshortest_busy = '13h'", "conflicts.shortest_busy: must be 12h or less"),
        ("[conflicts]\nshortest_busy = 30", "conflicts.shortest_busy: write a whole number and a unit"),
        ("[conflicts]\nwarn = ['reserved']", 'conflicts.warn: "reserved" always blocks'),
        ("[calendar]\nrefresh = '0s'", "calendar.refresh: must be at least 100ms"),
        ("[calendar]\nhorizon = { past = '1y' }", "calendar.horizon.past: write a whole number"),
        ("windows = []\n", "windows: describe at least one window"),
        ("freezes = 1\n", "freezes: write each as a table of its own, [[freezes]]"),
        ("calendar = 1\n", "calendar: write it as a table"),
        ("[windows.x]\ntitle = 'X'\ntimezone = 'UTC'\nstart = 10:00:00\nend = 11:00:00", "windows.x.days: is missing"),
    ],
)
def test_an_invalid_setting_is_refused(text, remedy):
    base = not text.startswith("windows")
    assert any(line.startswith(remedy) for line in problems(text, base=base))


def test_days_of_a_train_window_belong_to_its_stages():
    with pytest.raises(ConfigInvalid, match=r"windows\.european\.days: a train window has the days of train\.stages"):
        configured(
            windows={"european": {"title": "E", "timezone": "UTC", "start": "10:00", "end": "12:00", "days": ["tue"]}}
        )


def test_a_syntax_error_is_reported_with_file_line_and_column(tmp_path):
    file = tmp_path / "windows.toml"
    file.write_text('[train]\ntitle = "Train\n')
    with pytest.raises(ConfigInvalid, match=r"windows\.toml: .*line 2, column \d+"):
        load(file, {})


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(Invalid, match="name your configuration with --config FILE"):
        load(tmp_path / "windows.toml", {})
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "bytes.toml"):
        with pytest.raises(Invalid, match="cannot be read"):
            load(path, {})


def test_the_environment_overrides_the_file():
    config = configured(
        {"CALSYNC_CALENDAR_NAME": "Ours", "CALSYNC_CALENDAR_URL": "sqlite:////tmp/x.db", "CALSYNC_CONFLICTS_BUFFER": "15m"}
    )
    assert (config.calendar.name, config.calendar.url, config.conflicts.buffer) == (
        "Ours",
        "sqlite:////tmp/x.db",
        timedelta(minutes=15),
    )
    assert configured({"CALSYNC_TRAIN_WINDOWS": '["american", "european"]'}).train.windows == ("american", "european")


@pytest.mark.parametrize("name", ["2026", "true", "Deployments #2", '"quoted"', "a = b"])
def test_any_text_from_the_environment_can_be_a_name(name):
    assert configured({"CALSYNC_CALENDAR_NAME": name}).calendar.name == name


def test_a_mistake_in_the_environment_is_reported_like_one_in_the_file():
    assert any(line.startswith("calendar.refresh: ") for line in problems(environ={"CALSYNC_CALENDAR_REFRESH": "often"}))


def test_a_section_that_is_no_table_is_reported_also_if_the_environment_has_a_setting_of_it():
    assert problems("calendar = 1\n", {"CALSYNC_CALENDAR_NAME": "Ours"}) == ["calendar: write it as a table"]


def test_any_setting_can_come_from_a_file(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"ops:{SECRET}\n")
    config = configured({"CALSYNC_TOKENS_FILE": str(file)})
    assert config.tokens["ops"].get_secret_value() == SECRET
    both = problems(environ={"CALSYNC_TOKENS_FILE": str(file), "CALSYNC_TOKENS": "a:b"})
    assert any(line.startswith("CALSYNC_TOKENS: CALSYNC_TOKENS_FILE is set too") for line in both)
    assert any(
        line.startswith("CALSYNC_TOKENS_FILE: ") for line in problems(environ={"CALSYNC_TOKENS_FILE": str(tmp_path / "no")})
    )


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_variable_counts_as_not_set(tmp_path, empty):
    secrets = [
        "TOKENS",
        "CALENDAR_USERNAME",
        "CALENDAR_PASSWORD",
        "TICKETS_TOKEN",
        "NOTIFY_OPERATIONS",
        "BUSY_CONDUCTOR_EU",
    ]
    names = [f"CALSYNC_{name}" for name in [*secrets, "BUSY_NOBODY", "CALENDAR_URL", "CONFLICTS_BLOCK", "TICKETS_URL"]]
    file_settings = {"notify": {"operations": "environment"}, "calendar": {"url": "sqlite:///x.db"}}
    without = configured({}, **file_settings)
    assert configured(dict.fromkeys(names, empty), **file_settings) == without
    assert configured({f"{name}_FILE": empty for name in names}, **file_settings) == without
    file = tmp_path / "empty"
    file.write_text(empty)
    variables = [name for name in names if not name.startswith("CALSYNC_BUSY_")]
    mistakes = problems(environ={f"{name}_FILE": str(file) for name in variables})
    assert {line.split(":")[0] for line in mistakes} == {f"{name}_FILE" for name in variables}
    assert all(f"{file} is empty" in line for line in mistakes)
    # An empty variable or file name does not count beside the other.
    file.write_text("Ours")
    assert configured({"CALSYNC_CALENDAR_NAME": empty, "CALSYNC_CALENDAR_NAME_FILE": str(file)}).calendar.name == "Ours"
    assert configured({"CALSYNC_CALENDAR_NAME": "Ours", "CALSYNC_CALENDAR_NAME_FILE": empty}).calendar.name == "Ours"


@pytest.mark.parametrize("scheme", ["https", "webcal", "webcals"])
def test_the_address_of_a_busy_feed_may_be_as_calendar_clients_write_it(scheme):
    address = f"{scheme}://calendar.example.org/{SECRET}.ics"
    people = [{"name": "ana", "timezone": "UTC"}, {"name": "ben", "timezone": "UTC", "calendar": address}]
    for person in configured({"CALSYNC_BUSY_ANA": address}, conductors=people).conductors:
        assert person.calendar.get_secret_value() == f"https://calendar.example.org/{SECRET}.ics"
    # A room is opened by a browser, which does not know these schemes.
    if scheme != "https":
        with pytest.raises(ConfigInvalid, match=r"conductors\[0\]\.video: write a web address"):
            configured(conductors=[{"name": "ana", "timezone": "UTC", "video": address}])


ROSTER = """
[[conductors]]
name = "ana"
timezone = "UTC"
calendar = "https://calendar.example.org/ana.ics"
{more}
[[conductors]]
name = "ben"
timezone = "UTC"
[rotation]
order = ["ben", "ana"]
start = "2026-W49"
"""


def test_a_mistaken_address_in_the_environment_is_reported_once_with_its_variable(tmp_path):
    file = tmp_path / "address"
    file.write_text(f"calendar.example.org/{SECRET}")
    wanted = 'write a web address such as "https://calendar.example.org/ana.ics"'
    for variable, value in (("CALSYNC_BUSY_ANA", file.read_text()), ("CALSYNC_BUSY_ANA_FILE", str(file))):
        assert problems(ROSTER.format(more=""), {variable: value}) == [f"{variable}: {wanted}"]


@pytest.mark.parametrize(
    ("more", "mistake"),
    [
        ('hours = "9 to 5"', r"conductors\[0\]\.hours: "),
        ('nmae = "ana"', r"conductors\[0\]\.nmae: "),
        ('[[conductors]]\nname = "ana"\ntimezone = "Paris"', r"conductors\[1\]\.timezone: "),
    ],
)
def test_a_conductor_whose_entry_has_a_mistake_still_counts_as_in_the_roster(more, mistake):
    mistakes = problems(ROSTER.format(more=more))
    assert re.match(mistake, mistakes[0])
    assert [line.split(":")[0] for line in mistakes[1:]] == (["conductors[1].name"] if "[[" in more else [])


def test_tokens_are_named_and_never_shown():
    config = configured({"CALSYNC_TOKENS": f"ops:{SECRET}, bot:another:with:colons"})
    assert {name: token.get_secret_value() for name, token in config.tokens.items()} == {
        "ops": SECRET,
        "bot": "another:with:colons",
    }
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    "tokens", ["justatoken", "ops:", ":longenough", "ops:short", f"ops:{SECRET},ops:{SECRET}x", "ops:ümläutümläut"]
)
def test_bad_tokens_are_refused_without_showing_them(tokens):
    mistakes = problems(environ={"CALSYNC_TOKENS": tokens})
    assert mistakes
    assert all(line.startswith("CALSYNC_TOKENS: ") for line in mistakes)
    assert not any(SECRET in line or "longenough" in line for line in mistakes)


@pytest.mark.parametrize(
    ("freeze", "span"),
    [
        ({"start": date(2026, 12, 1), "end": date(2026, 12, 1)}, (utc(2026, 11, 30, 23), utc(2026, 12, 1, 23))),
        ({"start": utc(2026, 12, 1, 5), "end": utc(2026, 12, 1, 6)}, (utc(2026, 12, 1, 5), utc(2026, 12, 1, 6))),
    ],
)
def test_a_freeze_of_dates_holds_to_the_end_of_its_last_day(freeze, span):
    config = configured(freezes=[{**freeze, "timezone": "Europe/Paris", "reason": "r"}])
    assert freeze_span(config.freezes[0]) == span


@pytest.mark.parametrize(
    ("environ", "mistake"),
    [
        ({"CALSYNC_BUSY_ZOE": "https://example.org/secret"}, "CALSYNC_BUSY_ZOE: no conductor has this name"),
        ({"CALSYNC_BUSY_ANA": "example.org/secret"}, "CALSYNC_BUSY_ANA: write a web address"),
        ({"CALSYNC_BUSY_A_B": "https://example.org/secret"}, 'CALSYNC_BUSY_A_B: is for "a-b" and for "a b"'),
        (
            {"CALSYNC_BUSY_ANA": "https://example.org/secret", "CALSYNC_BUSY_ANA_FILE": "x"},
            "CALSYNC_BUSY_ANA: CALSYNC_BUSY_ANA_FILE is set too",
        ),
    ],
)
def test_an_address_for_nobody_is_a_mistake(environ, mistake):
    people = [{"name": name, "timezone": "UTC"} for name in ("ana", "a-b", "a b")]
    with pytest.raises(ConfigInvalid, match=mistake) as error:
        configured(environ, conductors=people)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("rotation", "mistake"),
    [
        ({"order": ["ana", "zoe"]}, 'rotation.order[1]: "zoe" is not in the roster; use one of ana, ben'),
        ({"order": ["ana", "ana"]}, 'rotation.order[1]: "ana" appears twice'),
        ({"order": ["ana"]}, "rotation.order: name at least two people"),
        ({"order": []}, "rotation: set both order and start"),
    ],
)
def test_a_mistaken_rotation_is_named(rotation, mistake):
    people = [{"name": name, "timezone": "UTC"} for name in ("ana", "ben")]
    with pytest.raises(ConfigInvalid) as error:
        configured(conductors=people, rotation={"start": "2026-W49", **rotation})
    assert [line[: len(mistake)] for line in error.value.problems] == [mistake]
