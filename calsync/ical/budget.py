"""The budget of reading other people's events, in instances and in processor time.

Anybody may put `FREQ=SECONDLY` on a calendar, or a rule without an instance until the year 9999. Such a rule must not keep
the rest of the calendar from being read.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any

MAX_INSTANCES = 5_000
"""The maximum number of instances of one event within the horizon."""
MAX_SECONDS = 0.5
"""The maximum processor time for expanding one event, in seconds."""
_WORKERS = {"calsync", "dateutil", "icalendar", "recurring_ical_events"}


class OverBudget(Exception):
    """Reading would take too long or yield too much; the message says which."""


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Stop the pure-Python work inside with `OverBudget` when it has used this much processor time.

    A profile hook sees every call, so it also stops a rule that finds no instance.
    """
    deadline = time.thread_time() + seconds
    calls = itertools.count(1)
    over = False

    def watch(frame: FrameType, _event: str, _arg: Any) -> None:
        nonlocal over
        # Reading the clock is expensive next to most calls. An exception in a callback of the garbage collector, or in a
        # generator that is being closed, gets lost together with the hook, so it is raised in the work itself.
        over = over or (not next(calls) % 256 and time.thread_time() > deadline)
        if over and not frame.f_code.co_flags & CO_GENERATOR and _package(frame) in _WORKERS:
            raise OverBudget(f"takes longer than {seconds:g} s of processor time to read")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
