"""The recurring windows and freezes of windows.toml as occurrences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zlib import crc32

from calsync.core.settings import Config, freeze_span
from calsync.core.timezones import midnight, zone
from calsync.core.weeks import WEEKDAYS
from calsync.ical.occurrences import Occurrence
from calsync.ical.recurrence import TimeRange

_DAY = timedelta(days=1)


def recurring_windows(config: Config, horizon: TimeRange) -> Iterator[Occurrence]:
    """Yield the slots of the recurring windows in the horizon."""
    for window in config.recurring_windows:
        for slot in window.between(horizon.start, horizon.end):
            yield Occurrence(
                slot.start.astimezone(UTC),
                slot.end.astimezone(UTC),
                slot.uid,
                window.title,
                kind="recurring",
                slot=slot.id,
                categories=(window.category,) if window.category else (),
            )


def freezes(config: Config, horizon: TimeRange) -> Iterator[Occurrence]:
    """Yield the freezes: the dated ones, and the weekly ones in the horizon."""
    for freeze in config.freezes:
        spans: Iterable[tuple[datetime, datetime]]
        spans = [freeze_span(freeze)] if freeze.days is None else _weekly_spans(freeze.days, freeze.timezone, horizon)
        for start, end in spans:
            yield Occurrence(
                start.astimezone(UTC),
                end.astimezone(UTC),
                f"freeze-{start:%Y%m%dT%H%M%SZ}-{end:%Y%m%dT%H%M%SZ}-{crc32(freeze.reason.encode()):08x}@calsync",
                freeze.reason,
                kind="freeze",
                train_only=freeze.scope == "train",
            )


def _weekly_spans(weekdays: Collection[str], timezone: str, horizon: TimeRange) -> Iterator[tuple[datetime, datetime]]:
    """Yield the spans (UTC) of these weekdays, from midnight to midnight in `timezone`; consecutive days are one span."""
    tz = zone(timezone)
    first, last = horizon.start.astimezone(tz).date() - 7 * _DAY, horizon.end.astimezone(tz).date() + 7 * _DAY
    days = (first + n * _DAY for n in range((last - first).days))
    for is_frozen, run in groupby(days, key=lambda day: WEEKDAYS[day.weekday()] in weekdays):
        consecutive = list(run)
        start, end = (midnight(day, timezone).astimezone(UTC) for day in (consecutive[0], consecutive[-1] + _DAY))
        if is_frozen and start < horizon.end and horizon.start < end:
            yield start, end
