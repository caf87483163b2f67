"""The one error tree of calsync.

    CalsyncError
    ├── Invalid               what was asked for makes no sense; the message says what would
    │   ├── UnknownTimezone   a name pytz does not know
    │   └── ConfigInvalid     every mistake in windows.toml at once
    ├── NotReserved           the week has no reservation
    ├── NotAway               there is no such absence
    ├── Conflicted            conflicts stand in the way of the slots
    │   └── ReservedByAnother another reservation holds the week
    ├── Unauthorized          writing needs a token
    ├── Forbidden             another web site may not write through a person's browser
    └── CalendarError         the calendar did not do what was asked
        ├── Changed           a precondition failed: the resource is not the one that was read
        ├── Unreachable       no answer from the calendar; it may answer later
        └── Refused           the calendar answered no: credentials, permission, quota

Every message is a sentence for a person and names the remedy. `web/problems.py` maps the tree to HTTP and `cli.py` to
exit codes; nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence


class CalsyncError(Exception):
    """Any error that calsync raises on purpose; `str()` is a sentence for a person."""


class Invalid(CalsyncError):
    """What was asked for makes no sense; nothing was written."""


class UnknownTimezone(Invalid):
    """`name` is not a timezone; `suggestions` lists close ones, best first."""

    def __init__(self, name: str, suggestions: Sequence[str]) -> None:
        self.name = name
        self.suggestions = tuple(suggestions)
        hint = " or ".join(f'"{suggestion}"' for suggestion in self.suggestions)
        super().__init__(
            f'"{name}" is not a timezone; ' + (f"did you mean {hint}?" if hint else 'use a name such as "Europe/Paris".')
        )


class ConfigInvalid(Invalid):
    """Every mistake in the configuration, each a line `key.path: what is wrong and what would be right`."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class NotReserved(CalsyncError):
    """The week has no reservation."""


class NotAway(CalsyncError):
    """There is no such absence on the calendar."""


class CalendarError(CalsyncError):
    """The calendar did not do what was asked."""


class Changed(CalendarError):
    """A precondition failed: the resource exists already, is gone, or has another etag (RFC 4791, section 5.3.4)."""


class Unreachable(CalendarError):
    """The calendar gave no usable answer; `retry_after` is a hint in seconds."""

    def __init__(self, message: str, retry_after: int = 30) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Refused(CalendarError):
    """The calendar answered no: credentials, permission or quota."""


class Unauthorized(CalsyncError):
    """Writing needs a token, and none or an unknown one was given."""


class Forbidden(CalsyncError):
    """The request comes from somewhere that may not write."""
