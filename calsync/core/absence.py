"""An absence: who is away, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AbsenceRecord:
    """Whose absence a resource is. All-day ones are seen in `timezone`; `author` is who wrote it down."""

    conductor: str
    timezone: str
    note: str | None = None
    author: str | None = None
