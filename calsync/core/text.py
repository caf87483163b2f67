"""Text that people write (names, notes, reasons), and durations and times as people read them.

Such a text is one line of limited length without control characters. Control characters are not allowed in iCalendar
(RFC 5545, section 3.3.11), end a line on IRC, and move a terminal's cursor. Bidirectional overrides and isolates make a
text look like another one.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from calsync.core.errors import Invalid

WORD, SENTENCE = 100, 500
"""The maximum length in characters: a name or a version, and a note or a reason."""
CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""The characters that a line must not have, as the inside of a regular expression's character class."""
LINE = rf"^[^{CONTROLS}]+$"
"""The pattern of a line, in the syntax that JSON Schema shares."""
_CONTROLS = re.compile(rf"[{CONTROLS}\ud800-\udfff]")


def check_line(what: str, text: str | None, most: int) -> None:
    """Raise `Invalid`, which names `what`, unless `text` is None or a line of 1 to `most` characters."""
    if text is None:
        return
    if not 1 <= len(text) <= most:
        raise Invalid(f"{what} has {len(text)} characters; write between 1 and {most}.")
    if _CONTROLS.search(text):
        raise Invalid(f"{what} has a line break or another control character; write it as one line of plain text.")


def strip_controls(text: str) -> str:
    """Return the text, of one or more lines, without control characters."""
    return "\n".join(_CONTROLS.sub("", line) for line in text.split("\n"))


def format_duration(span: timedelta) -> str:
    """Return the length of a span, rounded to minutes: `2 h`, `1 h 30 min`, `45 min`."""
    hours, minutes = divmod(round(span.total_seconds() / 60), 60)
    parts = [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if minutes or not hours else []
    return " ".join(parts)


def format_span(start: datetime, end: datetime) -> str:
    """Return a span on the clocks of its own timezone: `Tue 1 Dec 10:00–12:00`."""
    until = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%a} {end.day} {end:%b %H:%M}"
    return f"{start:%a} {start.day} {start:%b %H:%M}–{until}"
