"""The ticket system: a port of two methods, and its engine for Phabricator's Conduit.

Conduit takes a form in which lists and tables are nested keys, as PHP reads them (`constraints[ids][0]`), and answers with
200 also where it refuses: then `error_code` is not null and `error_info` says why.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from calsync.core.delivery import Hopeless, NotSent, Unsure
from calsync.core.settings import Config, is_task
from calsync.http import FetchError, NotConnected, fetch

TIMEOUT = 15.0
"""How long one call may take in all, from looking up the host to the last byte of its answer, in seconds."""
LONGEST = 60.0
"""How long all the calls of a post, or of looking for a comment, may take together: far less than `deliveries.LEASE`."""
MAX_BYTES = 10_000_000
"""How long an answer may be."""
PAGES = 20
"""How many pages of a ticket's history are looked through for a comment."""


class TicketSystem(Protocol):
    """A ticket system in which a comment can be found again."""

    def post(self, ticket: str, comment: str, *, assign: str | None) -> None:
        """Put a comment on the ticket, and assign it to the user called `assign`, both or neither.

        Raises `NotSent` where nothing was written (`Hopeless` where that is how it stays), and `Unsure` where that is not
        known.
        """

    def has(self, ticket: str, mark: str) -> bool:
        """Whether a comment with `mark` in it stands on the ticket. Raises `NotSent` where that cannot be told now."""


class Conduit:
    """Phabricator (or Phorge) at the address `url`, as the user of `token`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/").removesuffix("/api")
        self._token = token

    def post(self, ticket: str, comment: str, *, assign: str | None) -> None:
        """See `Tickets.post`; one `maniphest.edit` of both transactions."""
        until = time.monotonic() + LONGEST
        task = self._task(ticket, until)
        transactions: list[dict[str, Any]] = [{"type": "comment", "value": comment}]
        if assign is not None:
            transactions.insert(0, {"type": "owner", "value": self._user(assign, until)})
        self._call("maniphest.edit", {"objectIdentifier": task, "transactions": transactions}, until, writes=True)

    def has(self, ticket: str, mark: str) -> bool:
        """See `Tickets.has`; `transaction.search` reads the ticket's history, newest first."""
        until, after = time.monotonic() + LONGEST, None
        for _ in range(PAGES):
            page: dict[str, Any] = {"objectIdentifier": ticket, **({"after": after} if after else {})}
            found = self._call("transaction.search", page, until)
            for transaction in found["data"]:
                if any(mark in str(comment["content"]["raw"]) for comment in transaction["comments"]):
                    return True
            after = found["cursor"]["after"]
            if not after:
                break
        return False

    def _task(self, ticket: str, until: float) -> str:
        """The PHID of a task such as T123."""
        if not is_task(ticket):
            raise Hopeless(f"{ticket} is not a task such as T123")
        found = self._call("maniphest.search", {"constraints": {"ids": [int(ticket[1:])]}}, until)
        if not found["data"]:
            raise NotSent(f"there is no task {ticket}, or the token may not see it")
        return str(found["data"][0]["phid"])

    def _user(self, name: str, until: float) -> str:
        found = self._call("user.search", {"constraints": {"usernames": [name]}}, until)
        if not found["data"]:
            raise NotSent(f'the ticket system has no user "{name}"; see conductors.ticket_user')
        return str(found["data"][0]["phid"])

    def _call(self, method: str, parameters: Mapping[str, Any], until: float, *, writes: bool = False) -> Any:
        """The result of a call that is over before `until` on the monotonic clock."""
        form = {"api.token": self._token, "output": "json", **dict(_flat(parameters))}
        failed = Unsure if writes else NotSent
        seconds = min(TIMEOUT, until - time.monotonic())
        if seconds <= 0:
            raise NotSent(f"the ticket system takes more than {LONGEST:.0f} s")
        try:
            answer = fetch("POST", f"{self._url}/api/{method}", form=form, seconds=seconds, max_bytes=MAX_BYTES)
        except NotConnected as error:
            raise NotSent(f"the ticket system {error}") from None
        except FetchError as error:
            raise failed(f"the ticket system {error}") from None
        if answer.status != 200:
            # A server that fails may have written before it did.
            kind = NotSent if 400 <= answer.status < 500 else failed
            raise kind(f"the ticket system answers {answer.status} to {method}")
        try:
            said = json.loads(answer.body)
            code, info, result = said["error_code"], said["error_info"], said["result"]
        except (ValueError, KeyError, TypeError):
            raise failed(f"what the ticket system answers to {method} is not Conduit's") from None
        if code is not None:
            raise NotSent(f"the ticket system refuses {method}: {code}: {info}".replace(self._token, "…"))
        return result


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a form for nested parameters, as PHP reads them: `constraints[ids][0]`."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{key}[{name}]" if key else str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for n, part in enumerate(value):
            yield from _flat(part, f"{key}[{n}]")
    else:
        yield key, str(value)


def open_tickets(config: Config) -> TicketSystem | None:
    """The ticket system of `[tickets]`; None where there is none."""
    if config.tickets.url is None or config.ticket_token is None:
        return None
    return Conduit(config.tickets.url, config.ticket_token.get_secret_value())
