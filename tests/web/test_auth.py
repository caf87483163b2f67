"""Who may write, from where, how much, and on which address calsync listens."""

import logging

import pytest
from icalendar import Calendar

from calsync.core.config import load
from calsync.web.middleware import MAX_BODY
from support.samples import SHIPPED
from support.site import served

BODY = {"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us"}
URL = "/api/reservations"
BEN = {"Authorization": "Bearer secret-of-ben"}


@pytest.fixture
def client(calendar, now):
    """A server with two tokens."""
    config = load(SHIPPED, {"CALSYNC_TOKENS": "ana:secret-of-ana ben:secret-of-ben"})
    with served(config, calendar, now) as client:
        yield client


@pytest.fixture
def open_client(config, calendar, now):
    """A server without tokens."""
    with served(config, calendar, now) as client:
        yield client


def name(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["type"].removeprefix("urn:calsync:problem:")


def test_writing_without_a_known_token_is_401_and_says_which_kind(client, calendar):
    before = calendar.changes(None)
    for headers in (
        {},
        {"Authorization": "Bearer secret-of-nobody"},
        {"Authorization": "Bearer secret-of-be"},
        {"Authorization": "Bearer ben:secret-of-ben"},
        {"Authorization": "Basic YmVuOnNlY3JldC1vZi1iZW4="},
        {"Authorization": "Bearer"},
        {"Authorization": b"Bearer s\xe9cret-of-ben"},
    ):
        for method, url, body in (
            ("POST", URL, BODY),
            ("POST", f"{URL}?dry_run=true", BODY),
            ("PATCH", f"{URL}/2026-W49", {"ticket": "T1"}),
            ("DELETE", f"{URL}/2026-W49", None),
        ):
            answer = client.request(method, url, json=body, headers=headers)
            assert (answer.status_code, name(answer)) == (401, "unauthorized"), (headers, method)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert calendar.changes(None) == before


def test_reading_and_checking_need_no_token(client):
    for url in ("/", "/deployments.ics", "/api/reservations", "/api/now", "/api/windows", "/healthz", "/metrics", "/docs"):
        assert client.get(url).status_code == 200
    assert client.post("/api/conflicts", json=BODY).status_code == 200


def test_the_tokens_name_lands_on_the_event_and_in_the_log(client, calendar, caplog):
    with caplog.at_level(logging.INFO, logger="calsync"):
        assert client.post(URL, json=BODY, headers=BEN).status_code == 201
    found = [
        str(event["DESCRIPTION"])
        for event in Calendar.from_ical(client.get("/deployments.ics?only=reservations").content).events
    ]
    assert len(found) == 6
    assert all("Reserved by: ben" in said for said in found)
    assert "reserve by ben: 2026-W49 done" in caplog.messages
    (resource,) = calendar.changes(None).changed
    for said in (*caplog.messages, resource.ics.decode(), client.get("/metrics").text):
        assert "secret" not in said


def test_a_change_and_a_release_name_who_did_it(client, caplog):
    client.post(URL, json=BODY, headers=BEN)
    ana = {"Authorization": "bearer secret-of-ana"}
    with caplog.at_level(logging.INFO, logger="calsync"):
        assert client.patch(f"{URL}/2026-W49", json={"ticket": "T1"}, headers=ana).status_code == 200
        assert b"Reserved by: ana" in client.get("/deployments.ics").content.replace(b"\r\n ", b"")
        assert client.delete(f"{URL}/2026-W49", headers=ana).status_code == 200
    assert "change by ana: 2026-W49 done" in caplog.messages
    assert "release by ana: 2026-W49 done" in caplog.messages


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:8081"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_web_site_may_not_write_through_a_browser(open_client, calendar, headers):
    before = calendar.changes(None)
    for method, url, body in (
        ("POST", URL, BODY),
        ("PATCH", f"{URL}/2026-W49", {"ticket": "T1"}),
        ("DELETE", f"{URL}/2026-W49", None),
    ):
        answer = open_client.request(method, url, json=body, headers=headers)
        assert (answer.status_code, name(answer)) == (403, "forbidden")
    assert calendar.changes(None) == before


def test_calsyncs_own_page_and_programs_may_write_on_loopback(open_client):
    for week, headers in enumerate(
        (
            {},
            {"Origin": "http://localhost"},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
        )
    ):
        body = BODY | {"week": f"2027-W{week + 5:02}"}
        assert open_client.post(URL, json=body, headers=headers).status_code == 201


def test_no_other_origin_is_let_in_by_cors(open_client):
    answer = open_client.options(URL, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    assert answer.status_code == 405
    assert not [header for header in answer.headers if header.startswith("access-control")]


@pytest.mark.parametrize("url", [URL, "/api/conflicts"])
def test_a_body_over_64_kb_is_413_with_and_without_a_length(open_client, calendar, url):
    before = calendar.changes(None)
    long = b'{"train": "' + b"x" * MAX_BODY + b'"}'
    headers = {"Content-Type": "application/json"}
    told = open_client.post(url, content=long, headers=headers)
    untold = open_client.post(url, content=iter([long[:1000], long[1000:]]), headers=headers)
    assert "content-length" in told.request.headers
    assert "content-length" not in untold.request.headers
    assert (told.status_code, untold.status_code) == (413, 413)
    assert name(told) == name(untold)
    assert "content-security-policy" in untold.headers
    assert calendar.changes(None) == before


def test_a_body_of_64_kb_is_read(open_client):
    body = b'{"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us"}'.ljust(MAX_BODY)
    assert open_client.post(URL, content=body, headers={"Content-Type": "application/json"}).status_code == 201
