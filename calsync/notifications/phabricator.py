"""The ticket system: a protocol of two methods, and its implementation for Phabricator's Conduit.

Conduit takes a form with lists and tables as nested keys, as PHP reads them (`constraints[ids][0]`). It answers 200 even if
it refuses: then `error_code` is not null, and `error_info` gives the reason.
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
"""The time limit for one call, from looking up the host to the last byte of the answer, in seconds."""
LONGEST = 60.0
"""The time limit for all calls of one `post` or `has`, in seconds; far less than `LEASE`."""
MAX_BYTES = 10_000_000
"""The maximum length of an answer."""
PAGES = 20
"""The number of pages of a ticket's history to search for a comment."""


class TicketSystem(Protocol):
    """A ticket system in which a comment can be found again."""

    def post(self, ticket: str, comment: str, *, assign: str | None) -> None:
        """Add a comment to the ticket, and assign the ticket to the user `assign`: both or neither.

        Raises `NotSent` if nothing was written (`Hopeless` if a retry would not help), and `Unsure` if something may have
        been.
        """

    def has(self, ticket: str, mark: str) -> bool:
        """Return whether a comment on the ticket contains `mark`; raises `NotSent` if that cannot be found out now."""


class Conduit:
    """Phabricator or Phorge at the address `url`, used with the API token of a user."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/").removesuffix("/api")
        self._token = token

    def post(self, ticket: str, comment: str, *, assign: str | None) -> None:
        """Post as `TicketSystem.post` says, with one `maniphest.edit` for both transactions."""
        until = time.monotonic() + LONGEST
        task = self._task(ticket, until)
        transactions: list[dict[str, Any]] = [{"type": "comment", "value": comment}]
        if assign is not None:
            transactions.insert(0, {"type": "owner", "value": self._user(assign, until)})
        self._call("maniphest.edit", {"objectIdentifier": task, "transactions": transactions}, until, writes=True)

    def has(self, ticket: str, mark: str) -> bool:
        """Search as `TicketSystem.has` says; `transaction.search` returns the ticket's history, newest first."""
        until, after = time.monotonic() + LONGEST, None
        for _ in range(PAGES):
            query: dict[str, Any] = {"objectIdentifier": ticket, **({"after": after} if after else {})}
            page = self._call("transaction.search", query, until)
            for transaction in page["data"]:
                if any(mark in str(comment["content"]["raw"]) for comment in transaction["comments"]):
                    return True
            after = page["cursor"]["after"]
            if not after:
                break
        return False

    def _task(self, ticket: str, until: float) -> str:
        """Return the PHID of a task such as T123."""
        if not is_task(ticket):
            raise Hopeless(f"{ticket} is not a task such as T123")
        tasks = self._call("maniphest.search", {"constraints": {"ids": [int(ticket[1:])]}}, until)["data"]
        if not tasks:
            raise NotSent(f"there is no task {ticket}, or the token may not see it")
        return str(tasks[0]["phid"])

    def _user(self, name: str, until: float) -> str:
        users = self._call("user.search", {"constraints": {"usernames": [name]}}, until)["data"]
        if not users:
            raise NotSent(f'the ticket system has no user "{name}"; see conductors.ticket_user')
        return str(users[0]["phid"])

    def _call(self, method: str, parameters: Mapping[str, Any], until: float, *, writes: bool = False) -> Any:
        """Return the result of a call, which must end by `until` on the monotonic clock."""
        form = {"api.token": self._token, "output": "json", **dict(_flat(parameters))}
        failed = Unsure if writes else NotSent
        seconds = min(TIMEOUT, until - time.monotonic())
        if seconds <= 0:
            raise NotSent(f"the ticket system took more than {LONGEST:.0f} s")
        try:
            answer = fetch("POST", f"{self._url}/api/{method}", form=form, seconds=seconds, max_bytes=MAX_BYTES)
        except NotConnected as error:
            raise NotSent(f"the ticket system {error}") from None
        except FetchError as error:
            raise failed(f"the ticket system {error}") from None
        if answer.status != 200:
            # A server may write first and fail afterwards.
            kind = NotSent if 400 <= answer.status < 500 else failed
            raise kind(f"the ticket system answers {answer.status} to {method}")
        try:
            body = json.loads(answer.body)
            code, info, result = body["error_code"], body["error_info"], body["result"]
        except (ValueError, KeyError, TypeError):
            raise failed(f"the answer to {method} does not come from Conduit") from None
        if code is not None:
            raise NotSent(f"the ticket system refuses {method}: {code}: {info}".replace(self._token, "…"))
        return result


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the form fields of nested parameters, as PHP reads them: `constraints[ids][0]`."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{key}[{name}]" if key else str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for n, part in enumerate(value):
            yield from _flat(part, f"{key}[{n}]")
    else:
        yield key, str(value)


def open_tickets(config: Config) -> TicketSystem | None:
    """Return the ticket system of `[tickets]`; None if it is not set up, or its token is not set here."""
    if config.tickets.url is None or config.ticket_token is None:
        return None
    return Conduit(config.tickets.url, config.ticket_token.get_secret_value())
