"""Hand-offs, updates, absences and the rotation on the command line."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from calsync.core.delivery import new_delivery
from calsync.ical.delivery import write_deliveries
from calsync.schemas.week import HandoffOut, UpdateOut
from support.conduit import TOKEN
from support.pair import HREF, MIDWEEK, NOTE, standing


def test_without_the_ticket_systems_token_commands_work_and_doctor_says_what_is_missing(run, monkeypatch):
    monkeypatch.setenv("CALSYNC_TICKETS_URL", "https://phabricator.example.org")
    assert run("plan", "conductor-eu", "conductor-us", "--week", "2026-W49").code == 0
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49", "--ticket", "T400001")
    said = run("handoff", "2026-W49", "conductor-us", "--note", NOTE)
    assert said.code == 0, said.err
    assert "! ticket T400001: not sent yet, and tried again: left to a process that has CALSYNC_TICKETS_TOKEN" in said.out
    said = run("doctor", at=MIDWEEK)
    assert (said.code, said.err) == (0, "")
    assert "! CALSYNC_TICKETS_TOKEN is not set here, so the messages that need it are left to processes that have it." in (
        said.out
    )
    (secret,) = json.loads(run("doctor", "--json", at=MIDWEEK).out)["missing"]
    assert secret.startswith("CALSYNC_TICKETS_TOKEN is not set here")


def test_the_command_line_hands_off_and_updates(run, monkeypatch, server):
    monkeypatch.setenv("CALSYNC_TICKETS_URL", server.url)
    monkeypatch.setenv("CALSYNC_TICKETS_TOKEN", TOKEN)
    run("reserve", "conductor-eu", "conductor-us", "--week", "2026-W49", "--ticket", "T400001")
    said = run("handoff", "2026-W49", "conductor-us", "--note", NOTE)
    assert said.code == 0, said.err
    assert "conductor-us is responsible for 2026-W49 now." in said.out
    assert "✓ ticket T400001: sent: commented only: conductors.ticket_user of conductor-us is not set" in said.out
    assert "· operations channel: skipped: no channel is set up; see notify.operations" in said.out
    said = run("update", "2026-W49", "group1 is out", "--from", "conductor-eu")
    assert said.code == 0, said.err
    assert "✓ ticket T400001: sent" in said.out
    assert len(server.comments()) == 2
    found = run("handoff", "2026-W49", "cem@Europe/Berlin", "--note", "yours", "--json").json
    assert HandoffOut.model_validate(found).reservation.responsible == "cem"
    found = run("update", "2026-W49", "news", "--from", "cem", "--json").json
    assert UpdateOut.model_validate(found).to == ["ticket"]
    assert run("update", "2026-W49", "group1 is out", "--from", "zoe").code == 2
    assert run("handoff", "2026-W50", "conductor-us", "--note", "x").code == 2


def test_doctor_lists_the_messages_that_did_not_arrive_or_may_not_have(known, run, calendar, team):
    def told(cause, target, state, detail):
        return replace(new_delivery(cause, target, f"!log {cause}\nnews", MIDWEEK), state=state, detail=detail)

    entry = standing(known)
    made = [
        told("update-1", "log", "failed", "the [bold] channel is down"),
        told("update-2", "updates", "unknown", "it may have arrived"),
        told("update-3", "log", "sent", None),
        told("update-4", "ticket", "skipped", "there is no ticket"),
    ]
    calendar.put(HREF, write_deliveries(entry.ics, made), etag=entry.etag)
    said = run("doctor", at=MIDWEEK)
    assert said.code == 1
    assert "✗ 2026-W49: a message (log) did not arrive (the [bold] channel is down): !log update-1 news" in said.out
    assert "✗ 2026-W49: a message (updates) may have arrived or not (it may have arrived): !log update-2 news" in said.out
    assert "update-3" not in said.out + said.err
    assert "update-4" not in said.out + said.err
    found = run("doctor", "--json", at=MIDWEEK)
    assert [(one["week"], one["about"], one["state"]) for one in found.json["messages"]] == [
        ("2026-W49", "update-1", "failed"),
        ("2026-W49", "update-2", "unknown"),
    ]
    assert run("doctor", at=datetime(2026, 12, 8, tzinfo=UTC)).code == 0
