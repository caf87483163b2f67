"""The record of an absence that is stored on the calendar."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AbsenceRecord:
    """Who is away, and why. An absence of whole days is seen in `timezone`; `author` is who added it."""

    conductor: str
    timezone: str
    note: str | None = None
    author: str | None = None
