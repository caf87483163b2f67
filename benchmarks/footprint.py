"""A process that reads the calendar of a folder and says how much memory it then holds.

The command is `python -m benchmarks.footprint FOLDER`; it prints the resident bytes once the calendar is `read`, and once
everything was `asked` for, and how many `occurrences` there are.
"""

from __future__ import annotations

import gc
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from calsync.calendars.open import open_calendar
from calsync.core.config import load
from calsync.schedule.sync import CalendarSync
from calsync.web.state import AppState


def resident() -> int:
    """The resident memory of this process in bytes."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def main() -> None:
    config = load(Path(sys.argv[1]) / "windows.toml", {})
    now = datetime.now(UTC)
    state = AppState(config, CalendarSync(open_calendar(config), config, now), lambda: datetime.now(UTC))
    state.start()
    read = resident()
    span = state.agenda.horizon
    occurrences = sum(1 for _ in state.agenda.overlapping(span.start, span.end, "UTC"))
    found = {"read": read, "asked": resident(), "occurrences": occurrences}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
