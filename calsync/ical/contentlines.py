"""Components as content lines (RFC 5545, section 3.1): CRLF, at most 75 octets, properties in the order they were added."""

from __future__ import annotations

from icalendar import Component

from calsync.core.properties import PRODID

_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\r\n"))


def content_lines(component: Component) -> bytes:
    """Return the component with everything in it, without the control characters that no text may have (section 3.3.11)."""
    return bytes(component.to_ical(sorted=False)).translate(None, _CONTROLS)


def vcalendar(*components: bytes) -> bytes:
    """Return an iCalendar object of calsync (section 3.4) with these components, given as content lines."""
    head = f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:{PRODID}\r\n".encode()
    return b"".join([head, *components, b"END:VCALENDAR\r\n"])
