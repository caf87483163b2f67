"""The rotation: who conducts which week, worked out from the order in which the roster takes turns.

It is staggered: the primary of a train week is the backup of the next one, and a new primary comes in. A turn is a week as
primary. Weeks are gone through one by one from the rotation's start, and nothing in a week depends on a later one, so that
an absence changes nothing before it. A week reserved on the calendar is the truth: it counts as it stands, and the rotation
goes on from it. A week without a train takes no turn.

The turn goes to whoever has had the fewest in the rotation's year (52 weeks, counted from its start); among those to who
was passed over first, then to whose last turn is longest ago, and then to whoever follows the last primary in the order.
Somebody who is away is passed over and takes the next free turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from calsync.core.errors import Invalid
from calsync.core.weeks import LAST_YEAR, Week

YEAR = 52
"""How many weeks the rotation's year has, over which turns are counted."""


State = Literal["reserved", "planned", "open", "no-train"]
"""What a week is: on the calendar, planned, without enough people who are there, or without a train."""


Away = Callable[[str, Week, str | None], str | None]
"""Why somebody cannot be primary in a week, or the backup of the primary that is named; None if they can."""


_REMEDY = (
    "Reserve the week with somebody from outside the rotation, or with these people all the same and a reason (override); "
    "where it often comes to this, take more people into rotation.order."
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One week of the rotation. `passed` names those who were away when it was their turn, `notes` say what is unusual."""

    week: Week
    state: State
    primary: str | None = None
    backup: str | None = None
    passed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many turns somebody has in a rotation's year, and the `reason` where others have at least two more or fewer."""

    name: str
    turns: int
    reason: str | None = None


@dataclass
class _Queue:
    """Who comes next: the state that is carried from week to week."""

    order: Sequence[str]
    last: str
    """Who conducted last; before anybody did, whoever comes last in the order."""
    begun: bool
    """Whether `last` has conducted."""
    turns: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    """Those who were passed over and have not had a turn since, with a number by which the first of them comes first."""
    served: dict[str, int] = field(default_factory=dict)
    """The number of everybody's last turn."""

    def by_claim(self) -> list[str]:
        """Everybody, whoever's turn it is first."""
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
    held: Mapping[Week, tuple[str, str]],
    declined: Collection[Week],
    away: Away,
) -> Iterator[Turn]:
    """The weeks from `start` to `last`, both included.

    `held` has the primary and the backup of each week that is reserved, also before `start`: the last of those is followed.
    A week that went by without a reservation is planned like a coming one, so that time alone changes nothing.
    """
    before = [week for week in held if week < start]
    queue = _Queue(order, held[max(before)][0] if before else order[-1], bool(before))
    week, n = start, 0
    while week <= last:
        if n % YEAR == 0:
            queue.turns = {}
        if week in held:
            primary, backup = held[week]
            yield Turn(week, "reserved", primary, backup)
            queue.serve(primary)
        elif week in declined:
            yield Turn(week, "no-train")
        else:
            yield _plan(queue, week, away)
        if (week.year, week.number) >= (LAST_YEAR, 52):
            return
        week, n = week.shift(1), n + 1


def _plan(queue: _Queue, week: Week, away: Away) -> Turn:
    """The turn of a week that is not reserved."""
    notes: list[str] = []
    passed: list[str] = []
    primary = None
    for name in queue.by_claim():
        if name == queue.last:
            continue  # conducted last, and is the backup now
        why = away(name, week, None)
        if why is None:
            primary = name
            break
        passed.append(name)
        notes.append(f"{name} is passed over: {why}.")
    backup, said = _backup(queue, week, primary, away, passed)
    notes += said
    if primary is None:
        notes += ["There is nobody to be primary.", _REMEDY]
        return Turn(week, "open", None, backup, tuple(passed), tuple(notes))
    for name in passed:
        queue.pass_over(name)
    if backup is None:
        return Turn(week, "open", primary, None, tuple(passed), (*notes, _REMEDY))
    queue.serve(primary)
    return Turn(week, "planned", primary, backup, tuple(passed), tuple(notes))


def _backup(
    queue: _Queue, week: Week, primary: str | None, away: Away, passed: Collection[str]
) -> tuple[str | None, Sequence[str]]:
    """The backup of a week that is not reserved, and why it is not who conducted last.

    Nobody stands in beside those who were `passed` over where there is no primary.
    """
    former = queue.last
    why = away(former, week, primary) if former in queue.order else "not in the rotation"
    if why is None:
        return former, ()
    backup, missing = None, []
    for name in queue.by_claim() if primary is not None else ():
        if name in (primary, former):
            continue
        absent = away(name, week, primary)
        if absent is None:
            backup = name
            break
        if name not in passed:
            missing.append(f"{name} cannot stand in: {absent}.")
    was = "conducted last" if queue.begun else "is last in the order"
    stands_in = f"{backup} stands in" if backup else "there is nobody to be backup"
    return backup, (f"{former} {was} and is not the backup: {why}; {stands_in}.", *(missing if backup is None else ()))


def year_of(start: Week, week: Week) -> tuple[Week, Week]:
    """The first and the last week of the rotation's year that `week` (not before `start`) lies in."""
    weeks = (week.monday - start.monday).days // 7
    first = start.shift(weeks // YEAR * YEAR)
    return first, min(first.shift(YEAR - 1), Week(LAST_YEAR, 52))


def tally(order: Sequence[str], turns: Sequence[Turn]) -> tuple[Tally, ...]:
    """How often everybody is primary in these turns of one rotation's year, in the rotation's order."""
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
            held = sum(turn.primary == name and turn.state == "reserved" for turn in turns)
            absent = sorted({other for turn in turns for other in turn.passed})
            return f"took turns of those who were away: {', '.join(absent)}" if absent else f"{held} weeks were reserved so"
        return None

    return tuple(Tally(name, count[name], reason(name)) for name in order)


def check_weeks(weeks: int) -> int:
    """`weeks`, where that many can be shown."""
    if not 1 <= weeks <= 2 * YEAR:
        raise Invalid(f"Show between 1 and {2 * YEAR} weeks, not {weeks}.")
    return weeks
