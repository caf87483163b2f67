"""A channel on IRC: `ircs://NICK:PASSWORD@irc.example.org:6697/#operations`.

Each message has a connection of its own: register, authenticate, join, say it, ask the server for a PONG, and leave. The
server answers in order, so that its PONG without an error before it means that it took the message.

With a password calsync authenticates with SASL (`?auth=sasl`, the default), with NickServ (`?auth=nickserv`), or to the
server (`?auth=server`). It is identified before it joins, so that a channel for registered nicks lets it in and services
let it keep its nick. `?account=` names the account where it is not the nick.
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
"""How long each step waits for the server, in seconds."""
LONGEST = 60.0
"""How long one message may take, in seconds."""
NICKSERV_TIMEOUT = 10.0
MAX_TEXT = 380
"""How many bytes of text fit into a line beside its prefix (RFC 2812, section 2.3)."""
LOG = "!log "
"""How a line begins that the channel's bot writes into the log."""
NICKS = 8
"""How many nicks are tried where the first is in use, as by another replica in this moment."""

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
class _Place:
    """What the address of a channel says."""

    host: str
    port: int
    tls: bool
    nick: str
    password: str | None
    account: str
    auth: str
    channel: str
    key: str | None


def parse(url: str) -> _Place:
    """The address of a channel; `ValueError` with the remedy where it is none."""
    try:
        parts = urlsplit(url.replace("#", "%23"))
        host, port, nick = parts.hostname, parts.port, unquote(parts.username or "calsync")
    except ValueError:  # what it says may have half of a password in it
        raise ValueError(_SHAPE) from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    channel = unquote(parts.path.lstrip("/"))
    if not host or not channel.strip("#") or set(channel) & set(" ,\r\n\x07") or "@" in parts.path + parts.query:
        raise ValueError(_SHAPE)
    if query.keys() - {"auth", "account", "key"}:
        raise ValueError("auth, account and key are all options that there are; write & in one of them as %26")
    auth = query.get("auth", "sasl")
    if auth not in ("sasl", "nickserv", "server"):
        raise ValueError('auth is "sasl", "nickserv" or "server"')
    tls = parts.scheme == "ircs"
    return _Place(
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
        self._place = parse(url)

    def send(self, text: str) -> None:
        """Say the text, in as many lines as it needs; see `notify.Channel`."""
        talk = _Talk(self._place)
        try:
            talk.enter()
            talk.say(_lines(text))
        finally:
            talk.leave()


def _lines(text: str) -> list[str]:
    """The text in lines that fit; each further one of what is to be logged begins with `!log` too."""
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


class _Talk:
    """One connection; what happens on it is kept in order until it is waited for."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._events: list[Any] = []
        self._until = time.monotonic() + LONGEST
        self._was_refused = False
        self._reactor = irc_client.Reactor()
        self._connection = self._reactor.server()
        self._connection.buffer_class = buffer.LenientDecodingLineBuffer
        self._reactor.add_global_handler("all_events", lambda _connection, event: self._events.append(event))

    def enter(self) -> None:
        """Register, authenticate and join; `NotSent` where that fails, for nothing was said."""
        place = self._place
        try:
            self._connection.connect(
                place.host,
                place.port,
                place.nick,
                place.password if place.auth in ("sasl", "server") else None,
                username=place.nick,
                ircname="calsync",
                connect_factory=functools.partial(_connect, tls=place.tls),
                sasl_login=place.account if place.auth == "sasl" and place.password else None,
            )
            self._register()
            if place.auth == "nickserv" and place.password:
                self._identify()
            self._connection.join(place.channel, place.key or "")
            self._wait(lambda event: event.type == "endofnames", TIMEOUT, refused=_REFUSED)
        except (irc_client.IRCError, OSError) as error:
            raise NotSent(f"{place.host} cannot be reached: {error}") from None
        except ValueError as error:
            raise NotSent(f"{place.host} cannot be told: {error}") from None

    def _register(self) -> None:
        place, authenticated = self._place, False
        for n in range(1, NICKS + 1):
            event = self._wait(
                lambda event: event.type in ("welcome", "nicknameinuse", "nickcollision", "saslsuccess"), TIMEOUT
            )
            if event.type == "saslsuccess":
                authenticated = True
                event = self._wait(lambda event: event.type in ("welcome", "nicknameinuse", "nickcollision"), TIMEOUT)
            if event.type == "welcome":
                if place.auth == "sasl" and place.password and not authenticated:
                    raise NotSent(f"{place.host} does not know SASL; try ?auth=nickserv")
                return
            self._connection.nick(f"{place.nick}_{n}")
        raise NotSent(f"the nick {place.nick} and its stand-ins are in use on {place.host}")

    def _identify(self) -> None:
        """Identify with NickServ, and wait for its verdict."""
        place = self._place
        self._connection.privmsg("NickServ", f"IDENTIFY {place.account} {place.password}")

        def is_verdict(event: Any) -> bool:
            if event.type == "privnotice" and str(event.source).partition("!")[0].lower() == "nickserv":
                return any(word in " ".join(event.arguments).lower() for word in (*_DENIED, *_GRANTED))
            return event.type in ("loggedin", "nosuchnick")

        event = self._wait(is_verdict, NICKSERV_TIMEOUT)
        said = " ".join(event.arguments)
        if event.type == "nosuchnick" or (event.type == "privnotice" and any(word in said.lower() for word in _DENIED)):
            raise NotSent(f"NickServ of {place.host} says: {said}")

    def say(self, lines: list[str]) -> None:
        """Say the lines and wait for the server to have taken them."""
        place = self._place
        try:
            for line in lines:
                self._connection.privmsg(place.channel, line)
            mark = f"calsync-{time.monotonic_ns()}"
            self._connection.ping(mark)
            self._wait(
                lambda event: event.type == "pong" and mark in (event.target, *event.arguments), TIMEOUT, refused=_REFUSED
            )
        except NotSent as error:
            if self._was_refused and len(lines) == 1:
                raise
            raise Unsure(f"{place.host} did not confirm it: {error}") from None
        except (irc_client.IRCError, OSError, ValueError) as error:
            raise Unsure(f"{place.host} was lost while it was sent: {error}") from None

    def leave(self) -> None:
        """Close the connection, whatever state it is in."""
        self._connection.disconnect("")

    def _wait(self, wanted: Callable[[Any], bool], seconds: float, *, refused: set[str] | None = None) -> Any:
        """The next event that is `wanted`; `NotSent` where the server refuses, hangs up, or says nothing in time."""
        place, deadline = self._place, min(time.monotonic() + seconds, self._until)
        while True:
            while self._events:
                event = self._events.pop(0)
                if wanted(event):
                    return event
                if event.type in _BARRED or event.type in (refused or ()):
                    self._was_refused = True
                    raise NotSent(f"{place.host} refuses: {_said(event)}")
                if event.type in ("error", "disconnect"):
                    raise NotSent(f"{place.host} hung up: {event.target or ''} {' '.join(event.arguments)}".rstrip())
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotSent(f"{place.host} does not answer")
            self._reactor.process_once(min(left, 0.2))


def _said(event: Any) -> str:
    """What a server says with a refusal; the library puts the words of a failed login into the event's target."""
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
