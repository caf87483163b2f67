"""The calendar on a CalDAV server (RFC 4791, RFC 6578)."""
