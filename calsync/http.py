"""HTTP requests with a limit in time and size for the whole exchange, and the same limit in time for any connection.

The timeout of an HTTP library bounds each wait on the network, so a server that sends a byte now and then keeps it waiting
for ever. Here a clock runs beside the whole exchange, from looking up the name to the last byte, and cuts the connection.
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
    """No whole answer came; the text is a predicate without the address, which may be a secret."""


class NotConnected(FetchError):
    """The server was never reached, so it has certainly not seen the request."""


class TimedOut(FetchError):
    """The exchange took longer than it may."""


class TooLong(FetchError):
    """The answer has more bytes than it may."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; names of `headers` are in small letters."""

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
) -> Answer:
    """Return the answer to a request, whatever its status, after at most `seconds` and one more to hang up.

    Raises a `FetchError`; a body of more than `max_bytes` is `TooLong`.
    """
    import niquests  # costs 0.1 s of processor time, and most commands fetch nothing

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(_ask(method, url, seconds, max_bytes, headers, form), seconds))
    except (TimeoutError, niquests.exceptions.ReadTimeout):
        raise TimedOut(f"does not answer within {seconds:.0f} s") from None
    except (niquests.exceptions.ConnectTimeout, niquests.exceptions.InvalidURL) as error:
        raise NotConnected(f"cannot be reached: {type(error).__name__}") from None
    except (niquests.exceptions.RequestException, OSError, ValueError) as error:
        raise FetchError(f"cannot be reached: {type(error).__name__}") from None
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()  # unlike asyncio.run, this does not wait for a name that is still being looked up


async def _ask(
    method: str,
    url: str,
    seconds: float,
    max_bytes: int,
    headers: Mapping[str, str] | None,
    form: Mapping[str, str] | None,
) -> Answer:
    import niquests  # as above

    async with niquests.AsyncSession(disable_http3=True) as session:
        answer = await session.request(
            method,
            url,
            headers=dict(headers or {}),
            data=dict(form) if form else None,
            timeout=seconds,
            stream=True,
        )
        body = bytearray()
        async for part in await answer.iter_content(65_536):
            body += part
            if len(body) > max_bytes:
                raise TooLong(f"has more than {max_bytes:,} bytes")
        received = {str(name).lower(): str(value) for name, value in answer.headers.items()}
        return Answer(answer.status_code or 0, received, bytes(body))


@contextmanager
def time_limit(connection: Any, timeout: timedelta | None) -> Iterator[None]:
    """Cut a connection (anything with a `fileno`) if the work inside is not done after `timeout`; None never cuts it."""
    if timeout is None:
        yield
        return
    with contextlib.closing(socket.socket(fileno=os.dup(connection.fileno()))) as line:
        timer = threading.Timer(timeout.total_seconds(), _cut, [line])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _cut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the server may have hung up by itself
        line.shutdown(socket.SHUT_RDWR)
