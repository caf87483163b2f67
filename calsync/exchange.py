"""One exchange over HTTP with a server that may be slow, or hostile: bounded in time and size as a whole.

The time limit of an HTTP library is for each wait on the network, and a server that says a byte now and then is waited for
without end, while it sends the headers too. Here a clock runs beside the whole of it, from looking up the name to the last
byte, and cuts the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import niquests


class TooLong(Exception):
    """The answer has more bytes than it may."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; names of `headers` are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def exchange(
    method: str,
    url: str,
    *,
    seconds: float,
    most: int,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> Answer:
    """The answer to a request, with at most `most` bytes of body, after at most `seconds` and one more to hang up.

    Raises `TimeoutError`, `TooLong`, niquests' errors and `OSError`; their texts may have the address in them.
    """
    loop = asyncio.new_event_loop()
    try:
        asked = _ask(method, url, seconds, most, headers, form)
        return loop.run_until_complete(asyncio.wait_for(asked, seconds))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()  # unlike asyncio.run, this does not wait for a name that is still being looked up


async def _ask(
    method: str,
    url: str,
    seconds: float,
    most: int,
    headers: Mapping[str, str] | None,
    form: Mapping[str, str] | None,
) -> Answer:
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
            if len(body) > most:
                raise TooLong(f"it has more than {most:,} bytes")
        said = {str(name).lower(): str(value) for name, value in answer.headers.items()}
        return Answer(answer.status_code or 0, said, bytes(body))
