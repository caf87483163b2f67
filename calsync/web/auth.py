"""Who may write: whoever sends a known token, and no other web site through a browser."""

from __future__ import annotations

import hmac
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from calsync.core.errors import Forbidden, Unauthorized
from calsync.web.state import State

_bearer = HTTPBearer(auto_error=False, description="A token from CALSYNC_TOKENS.")


async def writer(  # async, because FastAPI would run a plain function in a thread
    request: Request, state: State, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> str | None:
    """Return the name that the request's token belongs to, or None on a loopback server without tokens."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (origin is not None and not _is_same(origin, request.headers.get("host"))):
        raise Forbidden(
            "Another web site cannot write through your browser; use calsync's own page, or send a token without a browser."
        )
    tokens = state.config.tokens
    if not tokens:
        return None
    if given is None:
        raise Unauthorized("Writing needs a token; send it as Authorization: Bearer TOKEN.")
    # Compare every token, so that the time tells nothing about which one was close.
    names = [
        name
        for name, token in tokens.items()
        if hmac.compare_digest(token.get_secret_value().encode(), given.credentials.encode())
    ]
    if not names:
        raise Unauthorized("Unknown token; ask whoever runs calsync for one.")
    return names[0]


def _is_same(origin: str, host: str | None) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


Writer = Annotated[str | None, Depends(writer)]
