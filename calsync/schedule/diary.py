"""The times at which one person is away: absences on the calendar, or the busy times of that person's own feed."""

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
_WRITTEN_BY_CALSYNC = re.compile(r".*@calsync|train-\d{4}-W\d\d", re.ASCII)  # UIDs


class Diary:
    """Occurrences at which somebody is away, each with the record of the absence; None if it comes from a busy feed."""

    def __init__(self, absences: Iterable[tuple[Occurrence, AbsenceRecord | None]] = ()) -> None:
        self._absences = sorted(absences, key=lambda absence: _widest_span(absence[0])[0])
        spans = [_widest_span(occurrence) for occurrence, _ in self._absences]
        self._starts = [start for start, _ in spans]
        self._latest_ends = list(accumulate((end for _, end in spans), max))

    def near(self, start: datetime, end: datetime) -> Iterator[tuple[Occurrence, AbsenceRecord | None]]:
        """Yield those that may overlap the span from `start` to `end` (aware) for any observer, and perhaps more."""
        last = bisect_left(self._starts, end)
        while last > 0 and self._latest_ends[last - 1] > start:
            last -= 1
            yield self._absences[last]


def _widest_span(occurrence: Occurrence) -> tuple[datetime, datetime]:
    start, end = occurrence.start, occurrence.end
    if start.tzinfo is None:
        return start.replace(tzinfo=UTC) - _DAY, end.replace(tzinfo=UTC) + _DAY
    return start, end


@dataclass(frozen=True)
class Busy:
    """What a person's own busy feed says."""

    occurrences: tuple[Occurrence, ...] = ()
    unknown: str | None = None
    """Why the feed cannot be relied on; None if it can."""

    @cached_property
    def diary(self) -> Diary:
        """The times at which the feed says that they are away; a copy of calsync's own slots in it does not count."""
        absences = (occurrence for occurrence in self.occurrences if occurrence.busy)
        return Diary((absence, None) for absence in absences if not _WRITTEN_BY_CALSYNC.fullmatch(absence.uid))
