"""Deliveries: messages to the ticket or to a channel, and what became of each.

A delivery is stored on the calendar, in the resource of the week that it is about (`ical/delivery.py`), so every replica
knows it and it outlives the process that made it. Its states:

    pending → claimed → sent
                      → pending     it certainly did not arrive, and is retried later
                      → unknown     it may have arrived; it is not retried
    pending → failed                it did not arrive in time
    skipped                         it has nowhere to go, or is no longer true

Each step is a conditional write, so only one replica gets the claim. A claim older than `LEASE` belongs to a process that
died. If the receiver can tell whether the message arrived, it is asked. Otherwise the outcome is unknown, because a
message sent twice is worse than one that people have to look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from calsync.core.timezones import utc_seconds

LEASE = timedelta(minutes=5)
"""How long a claim is valid; longer than any attempt takes."""
FIRST_RETRY, LAST_RETRY = timedelta(seconds=5), timedelta(minutes=15)
KEPT = 60
"""How many settled and expired deliveries a week keeps; the oldest are dropped first."""
Target = Literal["ticket", "log", "updates", "announcements"]
"""Where it goes: the ticket, the operations channel (as `!log`), the updates channel, or the channel for announcements."""
DeliveryState = Literal["pending", "claimed", "sent", "failed", "unknown", "skipped"]


class NotSent(Exception):
    """The message certainly did not arrive; `str()` says why."""


class Hopeless(NotSent):
    """The message did not arrive, and no retry would help."""


class Unsure(Exception):
    """The message may or may not have arrived; `str()` says why this is unknown."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one place. All times are in UTC.

    The aliases are the keys of the JSON that is stored on calendars: they never change.
    """

    id: str
    """Unique within the week, and derived from the cause and the target, so that the same message is not added twice."""
    correlation_id: Annotated[str, Field(alias="about")]
    """The hand-off, update or announcement that the message belongs to."""
    target: Target
    text: str
    created_at: Annotated[AwareDatetime, Field(alias="made")]
    expires_at: Annotated[AwareDatetime, Field(alias="until")]
    """When it is given up."""
    not_before: Annotated[AwareDatetime, Field(alias="due")]
    """The earliest time of the next attempt."""
    ticket: str | None = None
    """The ticket that a message to the ticket goes onto; each claim sets it again, like `assign` and `remark`."""
    to: str | None = None
    """The conductor whom a hand-off is to."""
    assign: str | None = None
    """The user of the ticket system whom the ticket is assigned to."""
    state: DeliveryState = "pending"
    attempts: int = 0
    claimed_at: Annotated[AwareDatetime | None, Field(alias="claimed")] = None
    lease_id: Annotated[str | None, Field(alias="by")] = None
    """The random token of the current claim, by which the process that made it recognises it."""
    detail: str | None = None
    """Why it is not sent (yet), or what to know about how it was sent."""
    remark: str | None = None
    """Becomes `detail` once the message is sent."""

    @property
    def settled(self) -> bool:
        """Whether its state is final."""
        return self.state not in ("pending", "claimed")

    @property
    def next(self) -> datetime | None:
        """When there is something to do: send it, give it up, or look into an expired claim; None if it is settled."""
        if self.state == "claimed":
            assert self.claimed_at is not None  # as every claim has
            return self.claimed_at + LEASE
        return min(self.not_before, self.expires_at) if self.state == "pending" else None

    def claim(self, lease_id: str, now: datetime) -> Delivery:
        """Return it claimed at `now` (aware); `lease_id` must be unique to this claim."""
        return replace(self, state="claimed", lease_id=lease_id, claimed_at=utc_seconds(now), attempts=self.attempts + 1)

    def settle(self, state: DeliveryState, detail: str | None = None) -> Delivery:
        """Return it with its outcome."""
        return replace(self, state=state, detail=detail, claimed_at=None, lease_id=None)

    def retry(self, why: str, now: datetime) -> Delivery:
        """Return it pending again, to be retried with exponential backoff (5 s, doubling to 15 min)."""
        wait = min(FIRST_RETRY * 2 ** min(self.attempts - 1, 10), LAST_RETRY)
        not_before = utc_seconds(now) + wait
        return replace(self, state="pending", detail=why, not_before=not_before, claimed_at=None, lease_id=None)


def new_delivery(
    correlation_id: str,
    target: Target,
    text: str,
    now: datetime,
    *,
    lasts: timedelta = timedelta(days=1),
    ticket: str | None = None,
    to: str | None = None,
    skipped: str | None = None,
) -> Delivery:
    """Make a delivery that is due at `now` (aware) and expires after `lasts`; `skipped` is the reason not to send it."""
    created_at = utc_seconds(now)
    delivery = Delivery(
        id=f"{correlation_id}-{target}",
        correlation_id=correlation_id,
        target=target,
        text=text,
        created_at=created_at,
        expires_at=created_at + lasts,
        not_before=created_at,
        ticket=ticket,
        to=to,
    )
    return delivery if skipped is None else delivery.settle("skipped", skipped)


def merge_deliveries(current: Sequence[Delivery], changed: Sequence[Delivery], now: datetime) -> tuple[Delivery, ...]:
    """Return `current` with the `changed` ones: each replaces the one of the same id, or is added at the end.

    Of those that are settled and expired at `now` (aware), only the newest `KEPT` remain.
    """
    by_id = {delivery.id: delivery for delivery in (*current, *changed)}
    over = [delivery.id for delivery in by_id.values() if delivery.settled and delivery.expires_at < now]
    for oldest in over[: max(0, len(over) - KEPT)]:
        del by_id[oldest]
    return tuple(by_id.values())
