"""When one person is away: absences on the calendar, or the busy times of that person's own feed."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate

from calsync.core.absence import AbsenceRecord
from calsync.ical.occurrences import Occurrence

_DAY = timedelta(days=1)
_OWN = re.compile(r".*@calsync|train-\d{4}-W\d\d", re.ASCII)


class Diary:
    """When somebody is away: occurrences, each with the absence it is of, or None where a busy feed says so."""

    def __init__(self, absences: Iterable[tuple[Occurrence, AbsenceRecord | None]] = ()) -> None:
        self._absences = sorted(absences, key=lambda absence: _widest(absence[0])[0])
        spans = [_widest(occurrence) for occurrence, _ in self._absences]
        self._starts = [start for start, _ in spans]
        self._ends = list(accumulate((end for _, end in spans), max))

    def near(self, start: datetime, end: datetime) -> Iterator[tuple[Occurrence, AbsenceRecord | None]]:
        """Those that may overlap the span from `start` to `end` (aware), wherever their clocks stand; and perhaps more."""
        last = bisect_left(self._starts, end)
        while last > 0 and self._ends[last - 1] > start:  # the latest end of all that started before
            last -= 1
            yield self._absences[last]


def _widest(occurrence: Occurrence) -> tuple[datetime, datetime]:
    start, end = occurrence.start, occurrence.end
    if start.tzinfo is None:
        return start.replace(tzinfo=UTC) - _DAY, end.replace(tzinfo=UTC) + _DAY
    return start, end


@dataclass(frozen=True)
class Busy:
    """What a person's own feed says: its `occurrences`, and why it cannot be relied upon, if it cannot."""

    occurrences: tuple[Occurrence, ...] = ()
    unknown: str | None = None

    @cached_property
    def diary(self) -> Diary:
        """When the feed says that they are away; slots that were put into it say nothing against themselves."""
        return Diary((one, None) for one in self.occurrences if one.busy and not _OWN.fullmatch(one.uid))
