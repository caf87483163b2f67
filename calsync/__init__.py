"""calsync puts a deployment train on the calendar.

The packages, from the top down: `cli`, `web`, `schemas`, `notifications`, `booking` (every write), `schedule` (every
question), `calendars` and `ical`, `core`. `docs/architecture.md` explains them.
"""

__version__ = "0.1.0"
