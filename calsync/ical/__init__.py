"""The iCalendar codec (RFC 5545): bytes to values and back. It knows no network and no database."""
