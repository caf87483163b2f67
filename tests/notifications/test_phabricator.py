"""The ticket system: what Conduit is asked, what its refusals become, and finding a comment again."""

import socket
import time

import pytest

from calsync.core.delivery import LEASE, NotSent, Unsure
from calsync.core.errors import ConfigInvalid
from calsync.notifications import phabricator
from calsync.notifications.phabricator import Conduit, open_tickets
from support.conduit import TOKEN
from support.dripping import Dripping
from support.samples import configured


def test_a_comment_and_an_assignment_are_one_edit(server):
    Conduit(server.url, TOKEN).post("T400001", "over to you: 100 % [x] & ünïcode\n\nsecond", assign="Ben")
    assert server.calls == ["maniphest.search", "user.search", "maniphest.edit"]
    assert server.owner() == "Ben"
    assert server.comments() == ["over to you: 100 % [x] & ünïcode\n\nsecond"]


def test_a_comment_alone_leaves_the_owner(server):
    Conduit(f"{server.url}/api/", TOKEN).post("T400002", "news", assign=None)
    assert (server.owner(400002), server.comments(400002)) == (None, ["news"])


@pytest.mark.parametrize(
    ("token", "ticket", "assign", "said"),
    [
        ("api-short", "T400001", None, "ERR-INVALID-AUTH: API token \"…\" has the wrong length"),
        ("cli-" + TOKEN[4:], "T400001", None, "ERR-INVALID-AUTH: API token \"…\" has the wrong format"),
        (TOKEN[:-1] + "0", "T400001", None, "ERR-INVALID-AUTH: API token \"…\" is not valid"),
        (TOKEN, "T9", None, "there is no task T9"),
        (TOKEN, "PROJ-1", None, "PROJ-1 is not a task such as T123"),
        (TOKEN, "T400001", "Zoe", 'has no user "Zoe"'),
    ],
)  # fmt: skip
def test_what_is_refused_was_not_sent_and_says_why_without_the_token(server, token, ticket, assign, said):
    with pytest.raises(NotSent) as error:
        Conduit(server.url, token).post(ticket, "news", assign=assign)
    assert said in str(error.value)
    assert token not in str(error.value)
    assert server.comments() == []


def test_a_server_that_is_away_got_nothing(server):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NotSent, match="cannot be reached"):
        Conduit(f"http://127.0.0.1:{port}", TOKEN).post("T400001", "news", assign=None)
    server.down = 1
    with pytest.raises(NotSent, match="503"):
        Conduit(server.url, TOKEN).post("T400001", "news", assign=None)


def test_a_server_that_says_nothing_to_an_edit_leaves_it_unsure_and_can_be_asked(server):
    conduit = Conduit(server.url, TOKEN)
    server.silent = ["maniphest.edit"]
    with pytest.raises(Unsure):
        conduit.post("T400001", "news //calsync:train-2026-W49/x//", assign=None)
    assert conduit.has("T400001", "calsync:train-2026-W49/x")
    assert not conduit.has("T400001", "calsync:train-2026-W49/y")
    assert not conduit.has("T400002", "calsync:train-2026-W49/x")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"])
def test_a_ticket_system_that_drips_is_given_up_in_time(monkeypatch, head):
    monkeypatch.setattr(phabricator, "TIMEOUT", 0.3)
    begun = time.monotonic()
    with Dripping(head, b"X-Slow: x") as server, pytest.raises(NotSent, match="does not answer within"):
        Conduit(server.url, TOKEN).post("T400001", "news", assign=None)
    assert time.monotonic() - begun < 30


@pytest.mark.heavy
def test_an_edit_whose_answer_drips_is_unsure(server, monkeypatch):
    monkeypatch.setattr(phabricator, "TIMEOUT", 2)  # also for the calls before it, which are answered
    server.dripping = ["maniphest.edit"]
    begun = time.monotonic()
    with pytest.raises(Unsure, match="does not answer within"):
        Conduit(server.url, TOKEN).post("T400001", "news", assign=None)
    assert time.monotonic() - begun < 30
    assert server.comments() == ["news"]


def test_all_calls_together_take_no_longer_than_a_claim_lasts(server, monkeypatch):
    assert LEASE.total_seconds() > 2 * phabricator.LONGEST  # a post, and a look for what became of it
    conduit = Conduit(server.url, TOKEN)
    for n in range(20):
        conduit.post("T400001", f"comment {n}.", assign=None)
    assert conduit.has("T400001", "comment 0.")
    monkeypatch.setattr(phabricator, "LONGEST", 0.5)
    server.delay = 0.2
    with pytest.raises(NotSent, match=r"does not answer within|took more than"):
        conduit.has("T400001", "comment 0.")


def test_a_comment_is_found_on_a_later_page(server):
    conduit = Conduit(server.url, TOKEN)
    for n in range(7):
        conduit.post("T400001", f"comment {n}.", assign=None)
    server.calls.clear()
    assert conduit.has("T400001", "comment 0.")
    assert server.calls == ["transaction.search"] * 4


def test_an_answer_that_is_not_conduits_is_told_of(server, monkeypatch):
    monkeypatch.setattr(server, "answer", lambda *_: {"data": []})
    monkeypatch.setattr("json.dumps", lambda *_: "<html>Sign in</html>")
    with pytest.raises(NotSent, match="does not come from Conduit"):
        Conduit(server.url, TOKEN).post("T400001", "news", assign=None)


def test_the_token_comes_from_the_environment_and_is_never_shown(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    where = {"url": "https://phabricator.example.org"}
    config = configured({"CALSYNC_TICKETS_TOKEN_FILE": str(tmp_path / "token")}, tickets=where)
    assert config.ticket_token.get_secret_value() == TOKEN
    assert TOKEN not in repr(config)
    assert isinstance(open_tickets(config), Conduit)
    assert open_tickets(configured()) is None
    assert open_tickets(configured(tickets=where)) is None
    with pytest.raises(ConfigInvalid, match="keep secrets out of this file"):
        configured(tickets={**where, "token": TOKEN})
