"""Who may do what: tokens for writing, and a guard around the whole app for browsers and for bodies out of measure."""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from calsync.core.errors import Forbidden, Invalid, Unauthorized
from calsync.web.state import State

_log = logging.getLogger("calsync")
_bearer = HTTPBearer(auto_error=False, description="A token from CALSYNC_TOKENS.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_listening(host: str, *, tokens: Iterable[str], hosts: Iterable[str]) -> None:
    """Refuse to listen where strangers could write, or where no Host header would be accepted."""
    names = [name for name in hosts if not is_loopback(name)]
    if is_loopback(host) and not names:
        return
    if not list(tokens):
        reached = host if not is_loopback(host) else names[0]
        raise Invalid(
            f"Without tokens anybody who reaches {reached} could write; set CALSYNC_TOKENS (name:token pairs), "
            "or listen on 127.0.0.1 and leave server.hosts empty."
        )
    if not names:
        raise Invalid(
            f"Say under which names calsync is reached when it listens on {host}: set server.hosts in windows.toml or "
            'CALSYNC_SERVER_HOSTS, such as ["calsync.example.org"].'
        )


async def writer(  # one that is not async would be sent through a thread
    request: Request, state: State, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> str | None:
    """The name whose token came with the request; None on a loopback server without tokens."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (origin is not None and not _is_same(origin, request.headers.get("host"))):
        raise Forbidden(
            "Another web site may not write through your browser; use calsync's own page, or a token and no browser."
        )
    tokens = state.config.tokens
    if not tokens:
        return None
    if given is None:
        raise Unauthorized("Writing needs a token; send it as Authorization: Bearer TOKEN.")
    # Every token is compared, so that the time tells nothing about which one was close.
    names = [
        name
        for name, token in tokens.items()
        if hmac.compare_digest(token.get_secret_value().encode(), given.credentials.encode())
    ]
    if not names:
        raise Unauthorized("This token is not known; ask whoever runs calsync for one.")
    return names[0]


def _is_same(origin: str, host: str | None) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


Writer = Annotated[str | None, Depends(writer)]
