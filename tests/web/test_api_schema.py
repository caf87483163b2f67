"""The API keeps to its own OpenAPI document, whatever comes in."""

from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance

from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from calsync.web.app import create_app
from support.samples import SHIPPED

pytestmark = pytest.mark.heavy

TOKEN = {"Authorization": "Bearer secret-of-ana"}
OPERATIONS = (
    "POST /api/reservations",
    "GET /api/reservations",
    "GET /api/reservations/{week}",
    "PATCH /api/reservations/{week}",
    "DELETE /api/reservations/{week}",
    "GET /api/conflicts",
    "POST /api/conflicts",
    "GET /api/windows",
    "GET /api/now",
    "GET /api/rotation",
    "GET /rotation.ics",
    "POST /api/reservations/{week}/handoff",
    "POST /api/reservations/{week}/updates",
    "GET /api/reservations/{week}/deliveries",
    "POST /api/away",
    "GET /api/away",
    "DELETE /api/away/{name}",
    "GET /deployments.ics",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
)


@pytest.fixture(autouse=True)
def _uncounted(monkeypatch):
    # niquests puts an urllib3 of its own in the place of the one whose pools schemathesis counts.
    monkeypatch.setattr("schemathesis.transport.requests._count_opened_connections", lambda _session: 0)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The OpenAPI document of a server that asks for tokens."""
    calendar = SqlCalendar.sqlite(tmp_path_factory.mktemp("schema") / "deployments.db")
    config = load(SHIPPED, {"CALSYNC_TOKENS": "ana:secret-of-ana", "CALSYNC_SERVER_HOSTS": '["testserver"]'})
    app = create_app(config, calendar, clock=lambda: datetime(2026, 11, 24, 12, tzinfo=UTC))
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    calendar.close()


def test_the_document_has_no_other_operations(api):
    assert sorted(found.ok().label for found in api.get_all_operations()) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_is_one_that_the_document_tells_of(api, operation, mode):
    strategy = api.find_operation_by_label(operation).as_strategy(generation_mode=mode)

    @settings(max_examples=15, suppress_health_check=list(HealthCheck), database=None)
    @given(strategy)
    def answer(case):
        # Timezones, names and weeks cannot be told in a schema, so what fits it may still be refused, with a 422.
        case.call_and_validate(headers=TOKEN, excluded_checks=[positive_data_acceptance])

    try:
        answer()
    except Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE  # an operation without input has none that is wrong


PAIR = {"primary": "conductor-eu", "backup": {"name": "ana", "timezone": "America/Denver"}}
W49 = {"path_parameters": {"week": "2026-W49"}}


def test_a_week_from_its_reservation_to_its_release_goes_by_the_document(api):
    calls: list[tuple[str, dict[str, Any], int]] = [
        ("POST /api/reservations", {"body": {"week": "2026-W49", **PAIR}}, 201),
        ("POST /api/reservations", {"body": {"week": "2026-W49", **PAIR}}, 200),
        (
            "POST /api/reservations",
            {"body": {"week": "2026-W49", "primary": "conductor-us", "backup": "conductor-eu"}},
            409,
        ),
        ("GET /api/reservations", {}, 200),
        ("GET /api/reservations/{week}", W49, 200),
        ("PATCH /api/reservations/{week}", W49 | {"body": {"ticket": "T1"}}, 200),
        ("PATCH /api/reservations/{week}", W49 | {"body": {"ticket": "T2"}, "headers": {"If-Match": '"no"'}}, 412),
        ("GET /api/conflicts", {"query": {"week": "2026-W53"}}, 200),
        ("POST /api/conflicts", {"body": {"week": "2026-W50", **PAIR}}, 200),
        ("GET /api/windows", {"query": {"week": "2026-W49"}}, 200),
        ("GET /api/now", {"query": {"at": "2026-12-01T09:30:00Z"}}, 200),
        ("GET /deployments.ics", {"query": {"window": ["american"], "alarm": "15m"}}, 200),
        ("GET /api/rotation", {"query": {"weeks": 3}}, 200),
        ("GET /rotation.ics", {}, 200),
        ("POST /api/away", {"body": {"conductor": "ana", "start": "2026-12-02", "end": "2026-12-03", "note": "fair"}}, 201),
        ("POST /api/away", {"body": {"conductor": "ana", "start": "2026-12-02", "end": "2026-12-03", "note": "fair"}}, 200),
        ("GET /api/away", {}, 200),
        ("DELETE /api/away/{name}", {"path_parameters": {"name": "nobody"}}, 404),
        ("POST /api/reservations/{week}/handoff", W49 | {"body": {"to": "conductor-us", "note": "yours"}}, 200),
        ("POST /api/reservations/{week}/handoff", W49 | {"body": {"to": "conductor-us", "note": "again"}}, 422),
        ("POST /api/reservations/{week}/updates", W49 | {"body": {"from": "ana", "text": "out"}}, 422),
        ("GET /api/reservations/{week}/deliveries", W49, 200),
        ("DELETE /api/reservations/{week}", W49, 200),
        ("GET /api/reservations/{week}", W49, 404),
    ]
    for label, parts, status in calls:
        media = {"media_type": "application/json"} if "body" in parts else {}
        case = api.find_operation_by_label(label).Case(**parts, **media)
        answer = case.call_and_validate(headers=TOKEN, excluded_checks=[positive_data_acceptance])
        assert answer.status_code == status, (label, answer.text)
