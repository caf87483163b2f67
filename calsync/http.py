"""HTTP requests with a limit in time and size for the whole exchange, and a time limit for any other connection.

The timeout of an HTTP library limits each wait on the network, so a server that sends a byte now and then can keep it
waiting for ever. Here the limit covers the whole exchange, from the DNS lookup to the last byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


class FetchError(Exception):
    """No complete response; the message is a predicate without the URL, which may be a secret."""


class NotConnected(FetchError):
    """The server was not reached, so it has certainly not seen the request."""


class TimedOut(FetchError):
    """The exchange took too long."""


class TooLong(FetchError):
    """The response is too large."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; the names in `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def fetch(
    method: str,
    url: str,
    *,
    seconds: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> Response:
    """Return the response to a request, whatever its status, after at most `seconds` and one more to hang up.

    Raises a `FetchError`; if the body has more than `max_bytes`, a `TooLong`.
    """
    import niquests  # takes 0.1 s of processor time, and most commands fetch nothing

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(_request(method, url, seconds, max_bytes, headers, form), seconds))
    except (TimeoutError, niquests.exceptions.ReadTimeout):
        raise TimedOut(f"does not answer within {seconds:.0f} s") from None
    except (niquests.exceptions.ConnectTimeout, niquests.exceptions.InvalidURL) as error:
        raise NotConnected(f"cannot be reached: {type(error).__name__}") from None
    except (niquests.exceptions.RequestException, OSError, ValueError) as error:
        raise FetchError(f"cannot be reached: {type(error).__name__}") from None
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()  # unlike asyncio.run, this does not wait for a DNS lookup that is still running


async def _request(
    method: str,
    url: str,
    seconds: float,
    max_bytes: int,
    headers: Mapping[str, str] | None,
    form: Mapping[str, str] | None,
) -> Response:
    import niquests  # as above

    async with niquests.AsyncSession(disable_http3=True) as session:
        response = await session.request(
            method,
            url,
            headers=dict(headers or {}),
            data=dict(form) if form else None,
            timeout=seconds,
            stream=True,
        )
        body = bytearray()
        async for chunk in await response.iter_content(65_536):
            body += chunk
            if len(body) > max_bytes:
                raise TooLong(f"has more than {max_bytes:,} bytes")
        received = {str(name).lower(): str(value) for name, value in response.headers.items()}
        return Response(response.status_code or 0, received, bytes(body))


@contextmanager
def time_limit(connection: Any, timeout: timedelta | None) -> Iterator[None]:
    """Cut a connection (anything with a `fileno`) if the work inside is not done after `timeout`; None never cuts it."""
    if timeout is None:
        yield
        return
    with contextlib.closing(socket.socket(fileno=os.dup(connection.fileno()))) as duplicate:
        timer = threading.Timer(timeout.total_seconds(), _cut, [duplicate])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _cut(duplicate: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the server may have hung up already
        duplicate.shutdown(socket.SHUT_RDWR)
