"""Channels: what is sent arrives unaltered, and what does not arrive is told of honestly; with a real IRC server."""

import contextlib
import http.server
import io
import json
import logging
import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsync.core.delivery import NotSent, Unsure
from calsync.core.errors import ConfigInvalid, Invalid
from calsync.notifications import channels, irc
from calsync.notifications.channels import AppriseChannel, open_channels
from calsync.notifications.irc import IrcChannel, _lines
from support.dripping import Dripping
from support.irc_servers import Listener, Ngircd, NickServ, SaslServer
from support.processes import until
from support.samples import configured
from support.servers import free_port

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def ngircd(tmp_path_factory):
    server = Ngircd(tmp_path_factory.mktemp("ngircd")).start()
    yield server
    server.stop()


@pytest.fixture
def listener(ngircd):
    listener = Listener(ngircd.port)
    yield listener
    listener.stop()


LOG = "!log MediaWiki train – “group1” → ünïcode: a b, 100 %"


def test_a_log_line_arrives_as_it_was_written_under_our_nick(ngircd, listener):
    IrcChannel(f"irc://calsync@127.0.0.1:{ngircd.port}/#operations").send(LOG)
    assert listener.hears(1) == [LOG]
    assert listener.nicks == ["calsync"]


def test_over_tls_the_certificate_is_checked(ngircd, listener, monkeypatch):
    channel = IrcChannel(f"ircs://calsync@127.0.0.1:{ngircd.tls_port}/%23operations")
    with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
        channel.send("!log never")
    monkeypatch.setenv("SSL_CERT_FILE", str(ngircd.cert))
    channel.send(LOG)
    assert listener.hears(1) == [LOG]


def test_a_channel_for_registered_nicks_is_joined_once_nickserv_knows_us(ngircd):
    services = NickServ(ngircd.port, "releng", "correct horse".replace(" ", "-"))
    url = f"irc://calsync:correct-horse@127.0.0.1:{ngircd.port}/#registered"
    try:
        with pytest.raises(NotSent, match="refuses"):
            IrcChannel(f"irc://calsync@127.0.0.1:{ngircd.port}/#registered").send("!log never")
        with pytest.raises(NotSent, match="Invalid password"):
            IrcChannel(url.replace("correct-", "wrong-") + "?auth=nickserv&account=releng").send("!log never")
        IrcChannel(f"{url}?auth=nickserv&account=releng").send(LOG)
        assert services.heard[-1] == "IDENTIFY releng correct-horse"
        assert "calsync" in services.greeted
    finally:
        services.stop()


def test_without_nickserv_nothing_is_sent(ngircd):
    with pytest.raises(NotSent):
        IrcChannel(f"irc://calsync:secret@127.0.0.1:{ngircd.port}/#operations?auth=nickserv").send("!log never")


def test_a_server_without_sasl_is_told_of(ngircd):
    with pytest.raises(NotSent, match=r"(?i)sasl"):
        IrcChannel(f"irc://calsync:secret@127.0.0.1:{ngircd.port}/#operations").send("!log never")


def test_with_sasl_we_are_known_before_we_join(tmp_path, monkeypatch):
    server = SaslServer(tmp_path, "releng", "pass:word")
    monkeypatch.setenv("SSL_CERT_FILE", str(server.cert))
    url = f"ircs://calsync:pass%3Aword@127.0.0.1:{server.port}/#operations?account=releng"
    try:
        IrcChannel(url).send(LOG)
        assert server.said == [LOG]
        commands = [line.partition(" ")[0] for line in server.log]
        assert commands.index("AUTHENTICATE") < commands.index("JOIN")
        with pytest.raises(NotSent, match="SASL authentication failed"):
            IrcChannel(url.replace("pass%3A", "wrong%3A")).send("!log never")
        assert server.said == [LOG]
    finally:
        server.stop()


def test_a_nick_that_is_in_use_is_stood_in_for_and_the_text_stays(ngircd, listener):
    other = Listener(ngircd.port, "#elsewhere", nick="calsync")
    try:
        IrcChannel(f"irc://calsync@127.0.0.1:{ngircd.port}/#operations").send(LOG)
        assert listener.hears(1) == [LOG]
        assert listener.nicks == ["calsync_1"]
    finally:
        other.stop()


@pytest.mark.parametrize(("channel", "why"), [("#keyed", "key"), ("#moderated", "refuses")])
def test_what_the_channel_refuses_was_not_sent(ngircd, channel, why):
    with pytest.raises(NotSent, match=why):
        IrcChannel(f"irc://calsync@127.0.0.1:{ngircd.port}/{channel}").send("!log never")


def test_a_channel_with_a_key_is_joined_with_it(ngircd):
    listener = Listener(ngircd.port, "#keyed", key="secret")
    try:
        IrcChannel(f"irc://calsync@127.0.0.1:{ngircd.port}/#keyed?key=secret").send(LOG)
        assert listener.hears(1) == [LOG]
    finally:
        listener.stop()


def test_a_text_too_long_for_a_line_comes_in_several_of_the_same_command(ngircd, listener):
    text = "!log " + " ".join(f"word{n}" for n in range(120))
    IrcChannel(f"irc://calsync@127.0.0.1:{ngircd.port}/#operations").send(text)
    lines = listener.hears(3)
    assert all(line.startswith("!log ") and len(line.encode()) <= 380 for line in lines)
    assert " ".join(line.removeprefix("!log ") for line in lines) == text.removeprefix("!log ")


def test_lines_of_any_letters_fit_and_lose_none():
    for text in ("ü" * 500, "!log " + "é" * 495, "short", "🚂" * 500):
        lines = _lines(text)
        assert all(len(line.encode()) <= irc.MAX_TEXT for line in lines)
        command = "!log " if text.startswith("!log ") else ""
        assert "".join(line.removeprefix(command) for line in lines) == text.removeprefix(command)


@given(
    st.text(alphabet="!a 🚂ü", max_size=400), st.sampled_from(["", "!", "!log ", "!log", "!" + "🚂" * 99, "!" + "a" * 380])
)
def test_any_text_comes_in_lines_that_fit_and_loses_none(text, start):
    words = " ".join((start + text).split())
    lines = _lines(start + text)
    assert all(len(line.encode()) <= irc.MAX_TEXT for line in lines)
    command = "!log " if words.startswith("!log ") else ""
    assert all(line.startswith(command) for line in lines)
    assert "".join(line.removeprefix(command) for line in lines).replace(" ", "") == words.removeprefix(command).replace(
        " ", ""
    )


def test_a_server_that_is_away_got_nothing():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NotSent, match="cannot be reached"):
        IrcChannel(f"irc://calsync@127.0.0.1:{port}/#operations").send("!log never")


def test_a_handshake_that_drips_is_cut(monkeypatch):
    monkeypatch.setattr(irc, "TIMEOUT", 0.5)
    record = b"\x16\x03\x03\x40\x00"  # of TLS, and of 16 KiB
    begun = time.monotonic()
    with Dripping(record) as server, pytest.raises(NotSent, match="cannot be reached"):
        IrcChannel(f"ircs://calsync@127.0.0.1:{server.port}/#operations").send("!log never")
    assert time.monotonic() - begun < 30


class Vanishing(threading.Thread):
    """A server that hangs up as soon as it is told something, so that nobody can say whether that went out."""

    def __init__(self):
        super().__init__()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        connection, _ = self.socket.accept()
        with connection, connection.makefile("rw", newline="\n") as lines:
            for line in lines:
                if line.startswith("USER"):
                    lines.write(":v 001 calsync :Welcome\r\n")
                elif line.startswith("JOIN"):
                    lines.write(":v 366 calsync #operations :End\r\n")
                elif line.startswith("PRIVMSG"):
                    return
                lines.flush()

    def stop(self):
        self.join()
        self.socket.close()


def test_a_connection_lost_while_it_is_sent_leaves_it_unsure():
    server = Vanishing()
    try:
        with pytest.raises(Unsure):
            IrcChannel(f"irc://calsync@127.0.0.1:{server.port}/#operations").send("!log perhaps")
    finally:
        server.stop()


# Everything else goes through Apprise


class Hook(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body)["message"])
        status = self.server.statuses.pop(0) if self.server.statuses else self.server.status
        if status is None:
            return  # hangs up without an answer
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.status, server.statuses = [], 200, []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_service_of_apprise_gets_the_text_unaltered(hook):
    AppriseChannel(f"json://127.0.0.1:{hook.server_port}/").send(LOG)
    assert hook.got == [LOG]


@pytest.mark.parametrize(
    ("status", "said", "outcome"),
    [
        (403, "!log never", NotSent),
        (404, "!log mw1: error=503.", NotSent),
        (503, "!log perhaps", Unsure),
        (504, "!log mw1: error=404.", Unsure),
        (None, "!log perhaps", Unsure),
        (None, "!log mw1: Connection refused, error=404.", Unsure),
    ],
)
def test_only_a_refusal_is_certain_whatever_the_text_says(hook, status, said, outcome):
    channel = AppriseChannel(f"json://127.0.0.1:{hook.server_port}/?retry=2&optional=yes")
    hook.status = status
    with pytest.raises(outcome):
        channel.send(said)
    assert hook.got == [said]


def test_what_one_of_several_targets_has_is_not_sent_again(hook):
    hook.statuses = [200, 403]
    with pytest.raises(Unsure):
        AppriseChannel(f"ntfy://127.0.0.1:{hook.server_port}/operations/releng").send("!log perhaps")
    assert len(hook.got) == 2
    hook.statuses = [403]
    with pytest.raises(NotSent):
        AppriseChannel(f"ntfy://127.0.0.1:{hook.server_port}/operations").send("!log never")
    with pytest.raises(Invalid, match="more than one address"):
        open_channels(configured({"CALSYNC_NOTIFY_OPERATIONS": f"json://127.0.0.1:{hook.server_port}, json://127.0.0.1:1"}))


def test_a_service_that_drips_is_given_up(monkeypatch):
    monkeypatch.setattr(channels, "SECONDS", 1)
    with Dripping(b"HTTP/1.1 200 OK\r\n", b"X-Slow: ") as server:
        with pytest.raises(Unsure):
            AppriseChannel(f"json://127.0.0.1:{server.port}/").send("!log perhaps")
        until(lambda: server.asked == 1, "it was asked once")


@pytest.fixture
def log():
    """What a process of calsync writes into its log."""
    written, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(written), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


def test_nothing_of_an_address_and_a_text_reaches_the_log(hook, log):
    address = f"user:SECRET-1@127.0.0.1:{hook.server_port}/SECRET-2?+X-Token=SECRET-3"
    for url, status in ((f"json://{address}", 200), (f"json://{address}", 503), (f"json://{address}", None)):
        hook.status = status
        with contextlib.suppress(Unsure):
            AppriseChannel(url).send("!log SECRET-4")
    with pytest.raises(ValueError, match="does not support"):
        AppriseChannel("slack://SECRET-5")
    with pytest.raises(NotSent):
        AppriseChannel(f"json://user:SECRET-1@127.0.0.1:{free_port()}/SECRET-2").send("!log SECRET-4")
    assert len(hook.got) == 3
    assert "SECRET" not in log.getvalue()
    assert str(hook.server_port) not in log.getvalue()


def test_a_service_that_is_away_got_nothing():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NotSent):
        AppriseChannel(f"json://127.0.0.1:{port}/").send("!log never")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("irc://127.0.0.1/", "write it as ircs://"),
        ("irc://127.0.0.1/#a?auth=magic", '"sasl", "nickserv" or "server"'),
        ("irc://127.0.0.1/#a?sasl=yes", "options are auth, account and key"),
        ("nonsense://x", "does not support this address"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_starts(url, said):
    with pytest.raises(Invalid, match=said) as error:
        open_channels(configured({"CALSYNC_NOTIFY_OPERATIONS": url}))
    assert "notify.operations" in str(error.value)


def test_updates_have_the_operations_channel_without_their_own():
    both = open_channels(configured({"CALSYNC_NOTIFY_OPERATIONS": "irc://127.0.0.1/#a"}))
    assert both.updates is both.operations is not None
    assert open_channels(configured()).operations is None


@pytest.mark.parametrize("password", ["hunt/er2", "hunt?er2", "9/er2", "9?er2", "[hunt", "9/er2#", "hunt:er2/"])
def test_a_password_that_is_not_written_as_it_must_be_is_not_repeated(password):
    with pytest.raises(Invalid, match=r"%2F %3F %23") as error:
        open_channels(configured({"CALSYNC_NOTIFY_OPERATIONS": f"ircs://calsync:{password}@irc.example.org/#a"}))
    assert "hunt" not in str(error.value)
    assert "er2" not in str(error.value)


def test_a_key_with_an_ampersand_is_not_repeated():
    with pytest.raises(Invalid) as error:
        open_channels(configured({"CALSYNC_NOTIFY_OPERATIONS": "ircs://irc.example.org/#a?key=hunt&er2=x"}))
    assert "er2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "ircs://calsync:SECRET@irc.example.org/#a",
        "ircs://calsync:SEC/RET@irc.example.org/#a",
        "ircs://irc.example.org/#a?key=SECRET",
        "ircs://irc.example.org/#a?auth=sasl&key=SECRET",
        "slack://SECRET/B/C",
        "matrixs://SECRET@matrix.example.org",
        "https://hooks.example.com/services/T0/B0/SECRET",
    ],
)
def test_an_address_that_may_hold_a_secret_is_refused_in_the_file_and_not_repeated(url):
    with pytest.raises(ConfigInvalid, match="set CALSYNC_NOTIFY_UPDATES to the whole address") as error:
        configured(notify={"updates": url})
    assert "SEC" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "irc://irc.example.org/#a",
        "ircs://calsync@irc.example.org:6697/#a",
        "ircs://[::1]:6697/%23a?auth=nickserv&account=releng",
    ],
)
def test_an_irc_channel_without_a_secret_may_stand_in_the_file(url):
    assert open_channels(configured(notify={"operations": url})).operations is not None


def test_a_secret_from_the_environment_is_never_shown():
    config = configured({"CALSYNC_NOTIFY_OPERATIONS": "ircs://calsync:secret@irc.example.org/#a"})
    assert "secret" not in repr(config)
    with pytest.raises(ConfigInvalid, match=r"notify\.operations") as error:
        configured({"CALSYNC_NOTIFY_OPERATIONS": '["slack://secret/B/C"]'})
    assert "slack" not in str(error.value)


def test_nothing_of_a_connection_is_left_behind(ngircd):
    before = threading.active_count()
    IrcChannel(f"irc://calsync@127.0.0.1:{ngircd.port}/#operations").send("hello")
    until(lambda: threading.active_count() == before, "the threads end")
