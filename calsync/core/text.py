"""What people write into names, notes and reasons: one line of bounded length, which shows as what it is.

Control characters have no place in iCalendar (RFC 5545, section 3.3.11), end a line on IRC, and move a terminal's cursor;
overrides and isolates of the bidirectional algorithm make a text look like another one.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from calsync.core.errors import Invalid


def format_duration(span: timedelta) -> str:
    """A span as a person says it: `2 h`, `1 h 30 min`, `45 min`."""
    hours, minutes = divmod(round(span.total_seconds() / 60), 60)
    return (
        " ".join(part for part in (f"{hours} h" if hours else "", f"{minutes} min" if minutes else "") if part) or "0 min"
    )


WORD, SENTENCE = 100, 500
"""How many characters a name or a version, and a note or a reason, have at most."""


UNSEEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""What has no place in a line, as part of a pattern."""


LINE = rf"^[^{UNSEEN}]+$"
"""What a line looks like, as a pattern that JSON Schema takes too."""


_UNSEEN = re.compile(rf"[{UNSEEN}\ud800-\udfff]")


def check_line(what: str, text: str | None, most: int) -> None:
    """Raise `Invalid`, naming `what` it is, where `text` is no line of 1 to `most` characters; None is left out."""
    if text is None:
        return
    if not 1 <= len(text) <= most:
        raise Invalid(f"{what} has {len(text)} characters; write between 1 and {most}.")
    if _UNSEEN.search(text):
        raise Invalid(f"{what} has a line break or another control character; write it in one line of plain text.")


def strip_controls(text: str) -> str:
    """Lines of other people's text without what does not show."""
    return "\n".join(_UNSEEN.sub("", line) for line in text.split("\n"))


def format_span(start: datetime, end: datetime) -> str:
    """A span on the clocks of its own timezone: `Tue 1 Dec 10:00–12:00`."""
    until = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%a} {end.day} {end:%b %H:%M}"
    return f"{start:%a} {start.day} {start:%b %H:%M}–{until}"
