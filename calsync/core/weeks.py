"""ISO weeks (ISO 8601), the unit in which trains are planned. A week starts on Monday and is written `2026-W49`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self

from calsync.core.errors import Invalid

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


# pytz knows clock changes up to 2037; a later plan could be off by an hour.
FIRST_YEAR, LAST_YEAR = 2000, 2037
_WEEK = re.compile(r"(\d{4})-?W(\d{2})", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Week:
    """One week of an ISO year; weeks sort by time. Raises `Invalid` for a week that does not exist."""

    year: int
    number: int

    def __post_init__(self) -> None:
        if not FIRST_YEAR <= self.year <= LAST_YEAR:
            raise Invalid(f"{self} is out of range; choose a week from {FIRST_YEAR} to {LAST_YEAR}.")
        try:
            date.fromisocalendar(self.year, self.number, 1)
        except ValueError:
            last = date(self.year, 12, 28).isocalendar().week
            raise Invalid(f"{self} does not exist; {self.year} has the weeks W01 to W{last}.") from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an ISO week (`2026-W49`), or any date in it (`2026-12-02`)."""
        if match := _WEEK.fullmatch(text.strip().upper()):
            return cls(int(match[1]), int(match[2]))
        if _DATE.fullmatch(text.strip()):
            try:
                return cls.containing(date.fromisoformat(text.strip()))
            except ValueError as error:
                raise Invalid(f'"{text}" is not a date: {error}.') from None
        raise Invalid(f'"{text[:40]}" is not a week; write an ISO week such as 2026-W49 or a date such as 2026-12-02.')

    @classmethod
    def containing(cls, day: date) -> Self:
        """Return the week of `day`."""
        year, number, _ = day.isocalendar()
        return cls(year, number)

    @property
    def monday(self) -> date:
        """The week's first day."""
        return date.fromisocalendar(self.year, self.number, 1)

    @property
    def eve(self) -> datetime:
        """An instant (UTC) at which the week has not begun anywhere on earth."""
        return datetime.combine(self.monday - timedelta(days=1), time(), UTC)

    def day(self, weekday: str) -> date:
        """Return the date of `weekday` (`mon` … `sun`) in this week."""
        return self.monday + timedelta(days=WEEKDAYS.index(weekday))

    def shift(self, weeks: int) -> Week:
        """Return the week that is `weeks` later, or earlier if negative."""
        return Week.containing(self.monday + timedelta(weeks=weeks))

    def __str__(self) -> str:
        return f"{self.year:04}-W{self.number:02}"
