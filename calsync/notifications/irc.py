"""A channel on IRC: `ircs://NICK:PASSWORD@irc.example.org:6697/#operations`.

Each message has a connection of its own: register, authenticate, join, send the text, ask for a PONG, and leave. The
server answers in order, so a PONG without an error before it means that the server took the message.

With a password, calsync authenticates with SASL (`?auth=sasl`, the default), with NickServ (`?auth=nickserv`), or to the
server (`?auth=server`). It does so before it joins, so a channel for registered nicks lets it in, and services let it keep
its nick. `?account=` names the account if that is not the nick.
"""

from __future__ import annotations

import functools
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from irc import client as irc_client
from jaraco.stream import buffer

from calsync.core.delivery import NotSent, Unsure
from calsync.http import time_limit

TIMEOUT = 20.0
"""The time limit for each step, in seconds."""
LONGEST = 60.0
"""The time limit for one message, in seconds."""
NICKSERV_TIMEOUT = 10.0
MAX_TEXT = 380
"""The number of bytes of text that fit into a line with its prefix (RFC 2812, section 2.3)."""
LOG = "!log "
"""The beginning of a line that the channel's bot writes into the log."""
NICKS = 8
"""The number of nicks to try; another replica may be using the first one."""

_SHAPE = (
    "write it as ircs://NICK:PASSWORD@irc.example.org/#channel, "
    "where / ? # @ : % in the password are %2F %3F %23 %40 %3A %25"
)

_REFUSED = {
    "nosuchchannel", "cannotsendtochan", "toomanychannels", "channelisfull", "inviteonlychan", "bannedfromchan",
    "badchannelkey", "badchanmask", "nochanmodes", "needmoreparams", "nosuchnick", "notonchannel", "489",
}  # fmt: skip

_BARRED = {"passwdmismatch", "yourebannedcreep", "login_failed", "nicklocked", "erroneusnickname"}
_DENIED = ("incorrect", "invalid", "failed", "not registered", "isn't registered", "denied")
_GRANTED = ("now identified", "now logged in", "password accepted", "now recognized", "successfully")


@dataclass(frozen=True, slots=True)
class _Address:
    """The parts of a channel's address."""

    host: str
    port: int
    tls: bool
    nick: str
    password: str | None
    account: str
    auth: str
    channel: str
    key: str | None


def parse(url: str) -> _Address:
    """Parse the address of a channel; raises `ValueError` with the remedy if it is wrong."""
    try:
        parts = urlsplit(url.replace("#", "%23"))
        host, port, nick = parts.hostname, parts.port, unquote(parts.username or "calsync")
    except ValueError:  # its text may contain half of a password
        raise ValueError(_SHAPE) from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    channel = unquote(parts.path.lstrip("/"))
    if not host or not channel.strip("#") or set(channel) & set(" ,\r\n\x07") or "@" in parts.path + parts.query:
        raise ValueError(_SHAPE)
    if query.keys() - {"auth", "account", "key"}:
        raise ValueError("the only options are auth, account and key; write & in a value as %26")
    auth = query.get("auth", "sasl")
    if auth not in ("sasl", "nickserv", "server"):
        raise ValueError('auth is "sasl", "nickserv" or "server"')
    tls = parts.scheme == "ircs"
    return _Address(
        host=host,
        port=port or (6697 if tls else 6667),
        tls=tls,
        nick=nick,
        password=unquote(parts.password) if parts.password else None,
        account=query.get("account", nick),
        auth=auth,
        channel=channel if channel[0] in "#&+!" else f"#{channel}",
        key=query.get("key"),
    )


class IrcChannel:
    """A channel on an IRC server."""

    def __init__(self, url: str) -> None:
        self._address = parse(url)

    def send(self, text: str) -> None:
        """Send the text as `Channel.send` says, in as many lines as it needs."""
        connection = _Connection(self._address)
        try:
            connection.enter()
            connection.say(_lines(text))
        finally:
            connection.leave()


def _lines(text: str) -> list[str]:
    """Return the text in lines that fit; if the first begins with `!log`, so do the others."""
    words = " ".join(text.split())
    command = LOG if words.startswith(LOG) else ""
    lines = []
    while len(words.encode()) > MAX_TEXT:
        head = words.encode()[:MAX_TEXT].decode(errors="ignore")
        cut = head.rfind(" ", len(command) + 1)
        cut = cut if cut > 0 else len(head)
        lines.append(words[:cut])
        words = command + words[cut:].lstrip()
    return [*lines, words]


class _Connection:
    """One connection; its events are kept in order until `_wait` takes them."""

    def __init__(self, address: _Address) -> None:
        self._address = address
        self._events: list[Any] = []
        self._until = time.monotonic() + LONGEST
        self._was_refused = False
        self._reactor = irc_client.Reactor()
        self._connection = self._reactor.server()
        self._connection.buffer_class = buffer.LenientDecodingLineBuffer
        self._reactor.add_global_handler("all_events", lambda _connection, event: self._events.append(event))

    def enter(self) -> None:
        """Register, authenticate and join; raises `NotSent` if that fails."""
        address = self._address
        try:
            self._connection.connect(
                address.host,
                address.port,
                address.nick,
                address.password if address.auth in ("sasl", "server") else None,
                username=address.nick,
                ircname="calsync",
                connect_factory=functools.partial(_connect, tls=address.tls),
                sasl_login=address.account if address.auth == "sasl" and address.password else None,
            )
            self._register()
            if address.auth == "nickserv" and address.password:
                self._identify()
            self._connection.join(address.channel, address.key or "")
            self._wait(lambda event: event.type == "endofnames", TIMEOUT, refused=_REFUSED)
        except (irc_client.IRCError, OSError) as error:
            raise NotSent(f"{address.host} cannot be reached: {error}") from None
        except ValueError as error:
            raise NotSent(f"the message for {address.host} cannot be sent: {error}") from None

    def _register(self) -> None:
        address, authenticated = self._address, False
        for n in range(1, NICKS + 1):
            event = self._wait(
                lambda event: event.type in ("welcome", "nicknameinuse", "nickcollision", "saslsuccess"), TIMEOUT
            )
            if event.type == "saslsuccess":
                authenticated = True
                event = self._wait(lambda event: event.type in ("welcome", "nicknameinuse", "nickcollision"), TIMEOUT)
            if event.type == "welcome":
                if address.auth == "sasl" and address.password and not authenticated:
                    raise NotSent(f"{address.host} does not support SASL; try ?auth=nickserv")
                return
            self._connection.nick(f"{address.nick}_{n}")
        raise NotSent(f"the nicks {address.nick} to {address.nick}_{NICKS - 1} are in use on {address.host}")

    def _identify(self) -> None:
        """Identify with NickServ, and wait for its answer."""
        address = self._address
        self._connection.privmsg("NickServ", f"IDENTIFY {address.account} {address.password}")

        def is_verdict(event: Any) -> bool:
            if event.type == "privnotice" and str(event.source).partition("!")[0].lower() == "nickserv":
                return any(word in " ".join(event.arguments).lower() for word in (*_DENIED, *_GRANTED))
            return event.type in ("loggedin", "nosuchnick")

        event = self._wait(is_verdict, NICKSERV_TIMEOUT)
        answer = " ".join(event.arguments)
        if event.type == "nosuchnick" or (event.type == "privnotice" and any(word in answer.lower() for word in _DENIED)):
            raise NotSent(f"NickServ of {address.host} says: {answer}")

    def say(self, lines: list[str]) -> None:
        """Send the lines, and wait until the server has taken them.

        Raises `NotSent` if it refused the only line, and `Unsure` if some of the text may have arrived.
        """
        address = self._address
        try:
            for line in lines:
                self._connection.privmsg(address.channel, line)
            mark = f"calsync-{time.monotonic_ns()}"
            self._connection.ping(mark)
            self._wait(
                lambda event: event.type == "pong" and mark in (event.target, *event.arguments), TIMEOUT, refused=_REFUSED
            )
        except NotSent as error:
            if self._was_refused and len(lines) == 1:
                raise
            raise Unsure(f"{address.host} did not confirm the message: {error}") from None
        except (irc_client.IRCError, OSError, ValueError) as error:
            raise Unsure(f"the connection to {address.host} was lost while sending: {error}") from None

    def leave(self) -> None:
        """Close the connection, in any state."""
        self._connection.disconnect("")

    def _wait(self, wanted: Callable[[Any], bool], seconds: float, *, refused: set[str] | None = None) -> Any:
        """Return the next event that is `wanted`.

        Raises `NotSent` if the server refuses (with one of the events `refused`), hangs up, or does not answer in time.
        """
        address, deadline = self._address, min(time.monotonic() + seconds, self._until)
        while True:
            while self._events:
                event = self._events.pop(0)
                if wanted(event):
                    return event
                if event.type in _BARRED or event.type in (refused or ()):
                    self._was_refused = True
                    raise NotSent(f"{address.host} refuses: {_reason(event)}")
                if event.type in ("error", "disconnect"):
                    raise NotSent(
                        f"{address.host} closed the connection: {event.target or ''} {' '.join(event.arguments)}".rstrip()
                    )
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotSent(f"{address.host} did not answer in time")
            self._reactor.process_once(min(left, 0.2))


def _reason(event: Any) -> str:
    """Return the reason of a refusal; for a failed login, the library puts it into the event's target."""
    words = event.arguments or (event.target if isinstance(event.target, list) else [])
    return " ".join(map(str, words)) or str(event.type)


def _connect(address: tuple[str, int], *, tls: bool) -> socket.socket:
    plain = socket.create_connection(address, timeout=TIMEOUT)
    if not tls:
        return plain
    try:
        with time_limit(plain, timedelta(seconds=TIMEOUT)):
            return ssl.create_default_context().wrap_socket(plain, server_hostname=address[0])
    except OSError:
        plain.close()
        raise
