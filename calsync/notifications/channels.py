"""Channels that people read: IRC by an engine of its own, everything else through Apprise.

Apprise knows some hundred services by their address (`slack://…`, `matrixs://…`, `mailto://…`). Its IRC is not used: it has
no SASL, takes a random nick where its own is in use, and reports as sent what a channel refused.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import ssl
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from calsync.core.delivery import NotSent, Unsure
from calsync.core.errors import Invalid
from calsync.core.settings import Config, is_elsewhere

SECONDS = 60.0
"""How long a service that Apprise knows may take to take one message."""
_EXTRA = "calsync[notify]"
_REFUSED = re.compile(r"error=4\d\d\.?$", re.ASCII)
_UNREACHABLE = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH}
_sending: ContextVar[tuple[str, list[bool]] | None] = ContextVar("sending", default=None)
"""What is sent now, and of each failure that Apprise told of so far whether it is certain that nothing arrived."""


class Channel(Protocol):
    """A place where people read."""

    def send(self, text: str) -> None:
        """Send one line as it is. Raises `NotSent` where it certainly was not, and `Unsure` where that is not known."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of `[notify]`; None where one is not set. Updates go to the operations channel without their own."""

    operations: Channel | None = None
    updates: Channel | None = None


class AppriseChannel:
    """A service that Apprise knows, by its address; the address may name several targets there."""

    def __init__(self, url: str) -> None:
        import apprise  # belongs to the extra

        _listen()
        self._service = apprise.Apprise()
        if not self._service.add(url) or len(list(self._service)) != 1:
            raise ValueError("Apprise knows no service of this address, or it is not one address alone")
        (service,) = self._service
        service.retry = 0  # it would try again also where a message may have arrived
        service.optional = False  # it would call sent what was not
        self._is_whole = len(service) == 1 and service.overflow_mode != apprise.OverflowMode.SPLIT

    def send(self, text: str) -> None:
        """See `Channel.send`. An answer 4xx and a connection that never came about are certain.

        Of several targets or parts of a text some may have arrived. Apprise does not say which: nothing is certain then.
        """
        certain: list[bool] = []
        token = _sending.set((text, certain))
        try:
            if self._service.notify(body=text, timeout=SECONDS):
                return
        finally:
            _sending.reset(token)
        if self._is_whole and certain and all(certain):
            raise NotSent("the service refused it or cannot be reached")
        raise Unsure("the service did not say whether it took it")


class _Witness(logging.Handler):
    """Hears why Apprise failed, which it tells in its log alone, and keeps that log from everybody else.

    What it logs has the address in it, which is a secret, and the text. So it is judged by the exception that is handled
    while it logs, or by its last word on an answer's status, and goes nowhere.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Note whether a failure of what is sent in this context leaves no doubt that it did not arrive."""
        sending = _sending.get()
        if sending is None:
            return
        text, certain = sending
        said = record.getMessage()
        if (error := sys.exc_info()[1]) is not None:
            certain.append(_never_connected(error))
        elif text not in said and "error=" in said:
            certain.append(_REFUSED.search(said) is not None)


_witness = _Witness(logging.WARNING)


def _listen() -> None:
    """Have Apprise's log end at the witness, for good: a call that was given up goes on, and logs, in its thread."""
    log = logging.getLogger("apprise")
    log.setLevel(logging.WARNING)
    log.propagate = False
    log.addHandler(_witness)  # once, however often


def _never_connected(error: BaseException | None) -> bool:
    """Whether the error is that of a connection that did not come about."""
    import requests  # which Apprise talks HTTP with

    while error is not None:
        if isinstance(error, requests.ConnectTimeout | socket.gaierror | ssl.SSLCertVerificationError):
            return True
        if isinstance(error, OSError) and error.errno in _UNREACHABLE:
            return True
        error = error.__context__
    return False


def open_channels(config: Config) -> Channels:
    """The channels of `[notify]`; `Invalid` where an address is none or what it needs is not installed."""
    operations = _open("operations", config.notify.operations)
    updates = _open("updates", config.notify.updates) if config.notify.updates else operations
    return Channels(operations, updates)


def faults(config: Config) -> tuple[str, ...]:
    """Why addresses of `[notify]` cannot be used, a sentence each, without the address, which is often a secret."""
    found = []
    for setting in ("operations", "updates"):
        try:
            _open(setting, getattr(config.notify, setting))
        except Invalid as error:
            found.append(str(error))
    return tuple(found)


def _open(setting: str, url: SecretStr | None) -> Channel | None:
    if url is None or is_elsewhere(url):
        return None
    address = url.get_secret_value()
    try:
        if re.match(r"ircs?://", address):
            from calsync.notifications.irc import IrcChannel  # its library belongs to the extra

            return IrcChannel(address)
        return AppriseChannel(address)
    except ImportError as error:
        raise Invalid(f"notify.{setting} needs {_EXTRA}, which is not installed: {error.name} is missing.") from None
    except ValueError as error:
        raise Invalid(f"notify.{setting}: {error}.") from None
