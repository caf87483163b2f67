"""The rotation: who conducts which week.

The rotation is staggered: the primary of a train week is the backup of the next one, and a new primary comes in. A turn is
a week as primary. Weeks are planned one by one from the rotation's start, and no week depends on a later one, so an absence
changes nothing before it. A reserved week counts as it is reserved, and the rotation continues from it. A week without a
train takes no turn.

The turn goes to whoever has had the fewest turns in the rotation's year (52 weeks, counted from its start). A tie goes to
whoever was passed over first, then to whoever had their last turn longest ago, then to whoever follows the last primary in
the order. Somebody who is away is passed over and takes the next free turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from calsync.core.errors import Invalid
from calsync.core.weeks import LAST_YEAR, Week

YEAR = 52
"""The number of weeks in the rotation's year, over which turns are counted."""
TurnState = Literal["reserved", "planned", "open", "no-train"]
"""Whether a week is reserved on the calendar, planned, short of people, or without a train."""
Unavailable = Callable[[str, Week, str | None], str | None]
"""Returns why a person cannot be primary in a week, or backup of the primary that is given; None if they can."""

_REMEDY = (
    "Reserve the week for somebody from outside the rotation, or for these people with a reason (override). "
    "If this happens often, add people to rotation.order."
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One week of the rotation. `passed` names those who were away on their turn; `notes` are sentences about the week."""

    week: Week
    state: TurnState
    primary: str | None = None
    backup: str | None = None
    passed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many turns somebody has in a rotation's year, and the `reason` if others have at least two more or fewer."""

    name: str
    turns: int
    reason: str | None = None


@dataclass
class _Queue:
    """The state that is carried from week to week, which decides who comes next."""

    order: Sequence[str]
    last: str
    """Who conducted last; at first, whoever is last in the order."""
    begun: bool
    """Whether `last` has conducted."""
    turns: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    """Those who were passed over and have not had a turn since, numbered in that sequence."""
    served: dict[str, int] = field(default_factory=dict)
    """The running number of each person's last turn."""

    def by_claim(self) -> list[str]:
        """Return everybody in the sequence in which the next turn is offered."""
        at = self.order.index(self.last) + 1 if self.last in self.order else 0
        cycle = [*self.order[at:], *self.order[:at]]
        never = len(self.waiting)
        return sorted(
            cycle,
            key=lambda name: (self.turns.get(name, 0), self.waiting.get(name, never), self.served.get(name, 0)),
        )

    def pass_over(self, name: str) -> None:
        self.waiting.setdefault(name, len(self.waiting))

    def serve(self, name: str) -> None:
        self.turns[name] = self.turns.get(name, 0) + 1
        if self.waiting.pop(name, None) is not None:
            self.waiting = {waiting: n for n, waiting in enumerate(self.waiting)}
        self.last, self.begun = name, True
        self.served[name] = max(self.served.values(), default=0) + 1


def rotate(
    order: Sequence[str],
    start: Week,
    last: Week,
    reserved: Mapping[Week, tuple[str, str]],
    declined: Collection[Week],
    unavailable: Unavailable,
) -> Iterator[Turn]:
    """Yield the turns from `start` to `last`, both included.

    `reserved` has the primary and the backup of each reserved week. The last one before `start` decides who follows. A past
    week without a reservation is planned like a coming one, so the passing of time alone changes nothing.
    """
    before = [week for week in reserved if week < start]
    queue = _Queue(order, reserved[max(before)][0] if before else order[-1], bool(before))
    week, n = start, 0
    while week <= last:
        if n % YEAR == 0:
            queue.turns = {}
        if week in reserved:
            primary, backup = reserved[week]
            yield Turn(week, "reserved", primary, backup)
            queue.serve(primary)
        elif week in declined:
            yield Turn(week, "no-train")
        else:
            yield _plan(queue, week, unavailable)
        if (week.year, week.number) >= (LAST_YEAR, 52):
            return
        week, n = week.shift(1), n + 1


def _plan(queue: _Queue, week: Week, unavailable: Unavailable) -> Turn:
    """Return the turn of a week that is not reserved."""
    notes: list[str] = []
    passed: list[str] = []
    primary = None
    for name in queue.by_claim():
        if name == queue.last:
            continue  # the backup of this week
        why = unavailable(name, week, None)
        if why is None:
            primary = name
            break
        passed.append(name)
        notes.append(f"{name} is passed over: {why}.")
    backup, backup_notes = _backup(queue, week, primary, unavailable, passed)
    notes += backup_notes
    if primary is None:
        notes += ["Nobody is available as primary.", _REMEDY]
        return Turn(week, "open", None, backup, tuple(passed), tuple(notes))
    for name in passed:
        queue.pass_over(name)
    if backup is None:
        return Turn(week, "open", primary, None, tuple(passed), (*notes, _REMEDY))
    queue.serve(primary)
    return Turn(week, "planned", primary, backup, tuple(passed), tuple(notes))


def _backup(
    queue: _Queue, week: Week, primary: str | None, unavailable: Unavailable, passed: Collection[str]
) -> tuple[str | None, Sequence[str]]:
    """Return the backup of a week that is not reserved, with notes if it is not whoever conducted last.

    Without a primary nobody stands in. Those in `passed` have their note already.
    """
    former = queue.last
    why = unavailable(former, week, primary) if former in queue.order else "not in the rotation"
    if why is None:
        return former, ()
    backup, away_notes = None, []
    for name in queue.by_claim() if primary is not None else ():
        if name in (primary, former):
            continue
        why_not = unavailable(name, week, primary)
        if why_not is None:
            backup = name
            break
        if name not in passed:
            away_notes.append(f"{name} cannot stand in: {why_not}.")
    was = "conducted last" if queue.begun else "is last in the order"
    instead = f"{backup} stands in" if backup else "nobody is available as backup"
    return backup, (f"{former} {was} and is not the backup: {why}; {instead}.", *(away_notes if backup is None else ()))


def year_of(start: Week, week: Week) -> tuple[Week, Week]:
    """Return the first and the last week of the rotation's year with `week` in it, which is not before `start`."""
    weeks = (week.monday - start.monday).days // 7
    first = start.shift(weeks // YEAR * YEAR)
    return first, min(first.shift(YEAR - 1), Week(LAST_YEAR, 52))


def tally(order: Sequence[str], turns: Sequence[Turn]) -> tuple[Tally, ...]:
    """Return how often everybody is primary in these turns of one rotation's year, in the rotation's order."""
    count = {name: sum(turn.primary == name for turn in turns if turn.state != "open") for name in order}
    least, most = min(count.values()), max(count.values())

    def reason(name: str) -> str | None:
        if most - least < 2:
            return None
        passed = [str(turn.week) for turn in turns if name in turn.passed]
        if count[name] < most - 1 and passed:
            return f"away when it was their turn in {', '.join(passed)}"
        if count[name] < most - 1:
            return "weeks were reserved for others"
        if count[name] > least + 1:
            if absent := sorted({other for turn in turns for other in turn.passed}):
                return f"took turns of those who were away: {', '.join(absent)}"
            weeks = sum(turn.primary == name and turn.state == "reserved" for turn in turns)
            return f"{weeks} weeks were reserved for them"
        return None

    return tuple(Tally(name, count[name], reason(name)) for name in order)


def check_weeks(weeks: int) -> int:
    """Return `weeks`; raises `Invalid` if that many cannot be shown."""
    if not 1 <= weeks <= 2 * YEAR:
        raise Invalid(f"Show between 1 and {2 * YEAR} weeks, not {weeks}.")
    return weeks
