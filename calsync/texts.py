"""What people write into names, notes and reasons: one line of bounded length, which shows as what it is.

Control characters have no place in iCalendar (RFC 5545, section 3.3.11), end a line on IRC, and move a terminal's cursor;
overrides and isolates of the bidirectional algorithm make a text look like another one.
"""

from __future__ import annotations

import re

from calsync.errors import Invalid

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


def shown(text: str) -> str:
    """Lines of other people's text without what does not show."""
    return "\n".join(_UNSEEN.sub("", line) for line in text.split("\n"))
