"""Channels that people read: IRC by an engine of its own, everything else through Apprise.

Apprise knows some hundred services by their address (`slack://…`, `matrixs://…`, `mailto://…`). Its IRC is not used: it has
no SASL, takes a random nick where its own is in use, and reports as sent what a channel refused.
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from calsync.deliveries import NotSent, Unsure
from calsync.errors import Invalid
from calsync.settings import Config, is_elsewhere

_EXTRA = "calsync[notify]"
_REFUSED = re.compile(r"error=\d{3}|response code \d{3}", re.IGNORECASE)
_NEVER_SENT = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Connection refused|Failed to establish|"
    r"Name or service not known|SSLError|CERTIFICATE_VERIFY_FAILED|No route to host|Network is unreachable"
)
_apprise_log = threading.Lock()
"""Apprise tells why it failed in its log alone, which all its calls share."""


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
    """A service that Apprise knows, by its address."""

    def __init__(self, url: str) -> None:
        import apprise  # belongs to the extra

        self._service = apprise.Apprise()
        if not self._service.add(url):
            raise ValueError("Apprise knows no service of this address")

    def send(self, text: str) -> None:
        """See `Channel.send`. An answer that refuses and a connection that never came about are certain."""
        import apprise

        with _apprise_log, apprise.LogCapture(level=logging.DEBUG) as captured:  # type: ignore[no-untyped-call]
            if self._service.notify(body=text):
                return
            said = captured.getvalue()
        if _REFUSED.search(said) or _NEVER_SENT.search(said):
            raise NotSent("the service refused it or cannot be reached")
        raise Unsure("the service did not say whether it took it")


def open_channels(config: Config) -> Channels:
    """The channels of `[notify]`; `Invalid` where an address is none or what it needs is not installed."""
    operations = _open("operations", config.notify.operations)
    updates = _open("updates", config.notify.updates) if config.notify.updates else operations
    return Channels(operations, updates)


def _open(setting: str, url: SecretStr | None) -> Channel | None:
    if url is None or is_elsewhere(url):
        return None
    address = url.get_secret_value()
    try:
        if re.match(r"ircs?://", address):
            from calsync.irc_channel import IrcChannel  # its library belongs to the extra

            return IrcChannel(address)
        return AppriseChannel(address)
    except ImportError as error:
        raise Invalid(f"notify.{setting} needs {_EXTRA}, which is not installed: {error.name} is missing.") from None
    except ValueError as error:
        raise Invalid(f"notify.{setting}: {error}.") from None
