"""The documentation names everything there is to name."""

import re
import tomllib
from datetime import UTC, datetime

import pytest
from typer.main import get_group

from calsync.calendars.sql import SqlCalendar
from calsync.cli.errors import exit_code
from calsync.cli.main import app
from calsync.core import errors, settings
from calsync.core.config import load
from calsync.core.conflict import Conflicted
from calsync.core.settings import KINDS, Section
from calsync.web import errors as web_errors
from calsync.web.app import create_app
from support.samples import ROOT, SHIPPED

SECTIONS: dict[str, type[Section]] = {
    "calendar": settings.CalendarSection,
    "calendar.horizon": settings.HorizonSettings,
    "train": settings.TrainSection,
    "train.no_train": settings.NoTrain,
    "windows.NAME": settings.WindowSection,
    "freezes": settings.Freeze,
    "conductors": settings.ConductorSection,
    "conflicts": settings.ConflictsSection,
    "server": settings.ServerSection,
    "rotation": settings.RotationSection,
    "notify": settings.NotifySection,
    "tickets": settings.TicketsSection,
}


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def everything():
    return "\n".join(page(path) for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])


def subclasses(kind):
    """The class and its descendants beside it; a module that has to tell more apart does so on its own."""
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__() if child.__module__ == kind.__module__))


@pytest.mark.parametrize("key", [f"{name}.{field}" for name, section in SECTIONS.items() for field in section.model_fields])
def test_every_setting_is_documented_by_its_key(key):
    section, _, field = key.rpartition(".")
    said = page("docs/configuration.md")
    if section in ("calendar.horizon", "train.no_train"):  # they are written in one line
        assert re.search(rf"`{re.escape(section)}`[^\n]*\b{field}\b", said), key
    else:
        assert f"`{key}`" in said, key


def test_no_section_is_forgotten_here():
    assert subclasses(Section) - {Section} == set(SECTIONS.values())


def test_every_secret_and_kind_of_conflict_is_documented():
    said = page("docs/configuration.md")
    assert "CALSYNC_TOKENS" in said
    assert "_FILE" in said
    assert [kind for kind in KINDS if f"`{kind}`" not in said] == []


def test_every_route_of_the_api_is_documented(tmp_path):
    calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
    document = create_app(load(SHIPPED, {}), calendar, clock=lambda: datetime(2026, 11, 24, tzinfo=UTC)).openapi()
    calendar.close()
    said = page("docs/api.md")
    missing = [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if not re.search(rf"\b{method.upper()}\b[^\n]*{re.escape(path)}(?![\w/{{])", said)
    ]
    assert missing == []


def test_every_parameter_and_field_of_the_api_is_documented(tmp_path):
    calendar = SqlCalendar.sqlite(tmp_path / "deployments.db")
    document = create_app(load(SHIPPED, {}), calendar, clock=lambda: datetime(2026, 11, 24, tzinfo=UTC)).openapi()
    calendar.close()
    parameters = {
        parameter["name"]
        for methods in document["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", [])
    }
    schemas = document["components"]["schemas"]
    fields = {field for name in ("ReservationIn", "ReservationOut", "Problem") for field in schemas[name]["properties"]}
    said = page("docs/api.md").casefold()
    assert [name for name in sorted(parameters | fields) if not re.search(rf"\b{name.casefold()}\b", said)] == []


def test_every_problem_is_documented():
    said = page("docs/api.md")
    source = page("calsync/web/errors.py") + page("calsync/web/middleware.py")
    names = set(re.findall(r'\d{3},\s*"([a-z-]+)"', source))
    assert {"invalid", "conflict", "calendar-away", "unknown-host", "too-large"} <= names
    assert [name for name in sorted(names) if not re.search(rf"(?<![\w-]){name}(?![\w-])", said)] == []


def test_every_error_has_a_status_of_its_own_and_an_exit_code():
    mapped = {kind for kind, *_ in web_errors._MAPPING}
    abstract = {errors.CalsyncError, errors.CalendarError, errors.ConfigInvalid}  # the last stops calsync before it serves
    assert (subclasses(errors.CalsyncError) | subclasses(Conflicted)) - abstract == mapped
    for kind in mapped:
        error = kind("It is so.", []) if issubclass(kind, Conflicted | errors.UnknownTimezone) else kind("It is so.")
        assert web_errors.of(error).status_code in range(400, 600)
        assert exit_code(error) in (1, 2, 3)


def test_the_most_special_error_is_mapped_first():
    kinds = [kind for kind, *_ in web_errors._MAPPING]
    for at, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[at + 1 :]), kind


@pytest.mark.parametrize("command", get_group(app).commands)
def test_every_command_is_documented(command):
    assert re.search(rf"(?:calsync|scripts/run) {command}\b", everything())


def test_every_package_is_in_the_architecture():
    text = page("docs/architecture.md")
    packages = [path.parent.name for path in (ROOT / "calsync").glob("*/__init__.py")]
    assert packages
    assert [name for name in packages if f"`{name}/`" not in text] == []


def test_every_toml_example_in_the_documentation_is_toml():
    for text in re.findall(r"```toml\n(.*?)```", everything(), re.DOTALL):
        tomllib.loads(text)


def test_every_link_within_the_documentation_leads_somewhere():
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", page(file)):
            assert (file.parent / target).exists(), f"{file.name}: {target}"
