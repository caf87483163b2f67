"""The error tree of calsync.

    CalsyncError
    ├── Invalid               the request is invalid; the message says what would be valid
    │   ├── UnknownTimezone   pytz does not know the timezone
    │   └── ConfigInvalid     all mistakes in windows.toml and the environment at once
    ├── NotReserved           the week is not reserved
    ├── NotAway               the absence does not exist
    ├── Conflicted            conflicts block the slots
    │   └── ReservedByAnother the week is reserved for another pair
    ├── Unauthorized          writing needs a token
    ├── Forbidden             another web site may not write through a person's browser
    └── CalendarError         the calendar did not do what was asked
        ├── Changed           a precondition failed: the resource is not the one that was read
        ├── Unreachable       no usable answer from the calendar; it may answer later
        └── Refused           the calendar answered no: credentials, permission, quota

`str()` of each is a sentence that says what is wrong and what to do. `web/errors.py` maps the tree to HTTP and
`cli/errors.py` to exit codes; nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence


class CalsyncError(Exception):
    """Any error that calsync raises on purpose."""


class Invalid(CalsyncError):
    """The request is invalid; nothing was written."""


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
    """The mistakes in the configuration, one per line: `key.path: what is wrong and what would be right`."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class NotReserved(CalsyncError):
    """The week is not reserved."""


class NotAway(CalsyncError):
    """The absence does not exist on the calendar."""


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
    """Writing needs a token, and the request has none or an unknown one."""


class Forbidden(CalsyncError):
    """The request comes from another web site, which may not write."""
