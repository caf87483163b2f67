"""Channels that people read: IRC (`irc.py`), and everything else through Apprise.

Apprise supports about a hundred services, each by its address (`slack://…`, `matrixs://…`, `mailto://…`). Its IRC is not
used: it has no SASL, takes a random nick if its own is in use, and reports a message as sent that the channel refused.
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
"""The time limit for sending one message through Apprise."""
_EXTRA = "calsync[notify]"
_REFUSED = re.compile(r"error=4\d\d\.?$", re.ASCII)
"""How Apprise ends its log line when the service answered with a status of 4xx."""
_UNREACHABLE = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH}
_sending: ContextVar[tuple[str, list[bool]] | None] = ContextVar("sending", default=None)
"""The text that is being sent and, for each failure in Apprise's log so far, whether it rules out that anything arrived."""


class Channel(Protocol):
    """A chat channel, a room or a mailbox."""

    def send(self, text: str) -> None:
        """Send one line unchanged. Raises `NotSent` if it certainly did not arrive, and `Unsure` if it may have."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of `[notify]`; None if one is not set. Without its own channel, updates go to the operations channel."""

    operations: Channel | None = None
    updates: Channel | None = None


class AppriseChannel:
    """A service that Apprise supports, by its address; the address may name several targets at the service."""

    def __init__(self, url: str) -> None:
        import apprise  # belongs to the extra

        _capture_log()
        self._service = apprise.Apprise()
        if not self._service.add(url) or len(list(self._service)) != 1:
            raise ValueError("Apprise does not support this address, or it is more than one address")
        (service,) = self._service
        service.retry = 0  # it would also retry a message that may have arrived
        service.optional = False  # it would report a failure as sent
        self._is_one_message = len(service) == 1 and service.overflow_mode != apprise.OverflowMode.SPLIT

    def send(self, text: str) -> None:
        """Send the text as `Channel.send` says. Only an answer 4xx and a connection that was never made count as `NotSent`.

        With several targets, or a text sent in parts, some may have arrived. Apprise does not say which, so a failure is
        `Unsure`.
        """
        failures: list[bool] = []
        token = _sending.set((text, failures))
        try:
            if self._service.notify(body=text, timeout=SECONDS):
                return
        finally:
            _sending.reset(token)
        if self._is_one_message and failures and all(failures):
            raise NotSent("the service refused it or cannot be reached")
        raise Unsure("the service did not say whether it took it")


class _Witness(logging.Handler):
    """Reads in Apprise's log why it failed, because it says so nowhere else, and keeps that log from being shown.

    The log contains the text and the address, which is a secret. So only two things are read: the exception that is being
    handled while Apprise logs, and the status of the answer at the end of a line.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Note for a failure of the current message whether it rules out that the message arrived."""
        sending = _sending.get()
        if sending is None:
            return
        text, failures = sending
        line = record.getMessage()
        if (error := sys.exc_info()[1]) is not None:
            failures.append(_never_connected(error))
        elif text not in line and "error=" in line:
            failures.append(_REFUSED.search(line) is not None)


_witness = _Witness(logging.WARNING)


def _capture_log() -> None:
    """Send Apprise's log to the witness alone, for good: a call that timed out continues, and logs, in its thread."""
    log = logging.getLogger("apprise")
    log.setLevel(logging.WARNING)
    log.propagate = False
    log.addHandler(_witness)  # adds it once, however often it is called


def _never_connected(error: BaseException | None) -> bool:
    """Return whether the error is, or was raised while handling, that of a connection that was never made."""
    import requests  # Apprise's HTTP client

    while error is not None:
        if isinstance(error, requests.ConnectTimeout | socket.gaierror | ssl.SSLCertVerificationError):
            return True
        if isinstance(error, OSError) and error.errno in _UNREACHABLE:
            return True
        error = error.__context__
    return False


def open_channels(config: Config) -> Channels:
    """Open the channels of `[notify]`; raises `Invalid` for a wrong address, or if the extra it needs is not installed."""
    operations = _open("operations", config.notify.operations)
    updates = _open("updates", config.notify.updates) if config.notify.updates else operations
    return Channels(operations, updates)


def faults(config: Config) -> tuple[str, ...]:
    """Return a sentence for each address of `[notify]` that cannot be used; never the address, which may be a secret."""
    sentences = []
    for setting in ("operations", "updates"):
        try:
            _open(setting, getattr(config.notify, setting))
        except Invalid as error:
            sentences.append(str(error))
    return tuple(sentences)


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
