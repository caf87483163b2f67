"""Deliveries: messages that are to reach the ticket or a channel, and what became of each.

They stand on the calendar, on the resource of the week that they are about, one `X-CALSYNC-DELIVERY` each (base64url of
JSON, a plain token), so that every replica knows of them and none is lost with the process that made it. A delivery goes

    pending → claimed → sent
                      → pending     it certainly did not arrive, and is tried again later
                      → unknown     it may have arrived, and nobody can tell; it is not tried again
    pending → failed                it did not arrive in time
    skipped                         there is nowhere to send it, or it is true no more

Each step is a conditional write, so that of all replicas one has the claim. A claim that is not settled within `LEASE` is
of a process that died with it. Where the receiver can tell whether the message is there, it is asked; where it cannot, the
outcome is unknown, because a message twice is worse than one that people have to look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime

from calsync.core.timezones import utc_seconds

LEASE = timedelta(minutes=5)
"""How long a claim holds; longer than any attempt takes."""


FIRST_RETRY, LAST_RETRY = timedelta(seconds=5), timedelta(minutes=15)


KEPT = 60
"""How many settled deliveries a week keeps when their time is over; the oldest make room."""


Target = Literal["ticket", "log", "updates", "announcements"]
"""Where it goes: onto the ticket, as `!log` to the operations channel, to the updates' channel, or as an announcement."""


State = Literal["pending", "claimed", "sent", "failed", "unknown", "skipped"]


class NotSent(Exception):
    """The message certainly did not arrive; the text says why."""


class Hopeless(NotSent):
    """The message did not arrive, and will not however often it is tried."""


class Unsure(Exception):
    """The message may have arrived or not; the text says why that is not known."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one place. `id` is unique within the week, and the same for the same message of the same cause.

    `about` names the hand-off, update or announcement that it belongs to, and `to` who a hand-off is to. `ticket`, the
    user whom it is assigned to (`assign`), and the `remark`, its detail once it is sent, are those of its claim. Times are
    in UTC: it is not sent before `due` nor after `until`, and its claim, if any, is from `claimed`.
    """

    id: str
    about: str
    target: Target
    text: str
    made: AwareDatetime
    until: AwareDatetime
    due: AwareDatetime
    ticket: str | None = None
    to: str | None = None
    assign: str | None = None
    state: State = "pending"
    attempts: int = 0
    claimed: AwareDatetime | None = None
    by: str | None = None
    detail: str | None = None
    remark: str | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state not in ("pending", "claimed")

    @property
    def next(self) -> datetime | None:
        """When there is something to do: send it, give it up, or find out about a lost claim; None once it is settled."""
        if self.state == "claimed":
            assert self.claimed is not None  # as every claim has
            return self.claimed + LEASE
        return min(self.due, self.until) if self.state == "pending" else None

    def claim(self, by: str, now: datetime) -> Delivery:
        """The same, about to be sent; `by` is this claim's own, so that whoever made it knows it from all others."""
        return replace(self, state="claimed", by=by, claimed=utc_seconds(now), attempts=self.attempts + 1)

    def settle(self, state: State, detail: str | None = None) -> Delivery:
        """The same, with its outcome."""
        return replace(self, state=state, detail=detail, claimed=None, by=None)

    def retry(self, why: str, now: datetime) -> Delivery:
        """The same, to be tried again after a while that doubles from time to time."""
        wait = min(FIRST_RETRY * 2 ** min(self.attempts - 1, 10), LAST_RETRY)
        return replace(self, state="pending", detail=why, due=utc_seconds(now) + wait, claimed=None, by=None)


def new_delivery(
    about: str,
    target: Target,
    text: str,
    now: datetime,
    *,
    lasts: timedelta = timedelta(days=1),
    ticket: str | None = None,
    to: str | None = None,
    skipped: str | None = None,
) -> Delivery:
    """A delivery that is due at `now` (aware) and given up when it `lasts` no more; one that is `skipped` says why."""
    made = utc_seconds(now)
    found = Delivery(f"{about}-{target}", about, target, text, made, made + lasts, made, ticket, to)
    return found if skipped is None else found.settle("skipped", skipped)


def merge_deliveries(known: Sequence[Delivery], more: Sequence[Delivery], now: datetime) -> tuple[Delivery, ...]:
    """`known` with those of `more` in the place of their former selves or behind them.

    Of those whose time was over at `now` (aware) and that are settled, the oldest make room.
    """
    found = {delivery.id: delivery for delivery in (*known, *more)}
    over = [delivery.id for delivery in found.values() if delivery.settled and delivery.until < now]
    for old in over[: max(0, len(over) - KEPT)]:
        del found[old]
    return tuple(found.values())
