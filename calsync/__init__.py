"""calsync puts a deployment train on the calendar.

Reading order for a newcomer: `weeks`, `zones` and `windows` (when a train window falls on a date), `planning` (who of the
pair sits in which window, and why), `conflicts` (what stands in the way), `reservations` (the one place that writes),
`feed` (what people subscribe to). `docs/architecture.md` draws the house.
"""

__version__ = "0.1.0"
