"""The XML that the unruly server reads and writes; a property's name is `{namespace}name`, its value is XML."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from urllib.parse import quote
from xml.sax.saxutils import escape

DAV, CALDAV, CS = "{DAV:}", "{urn:ietf:params:xml:ns:caldav}", "{http://calendarserver.org/ns/}"
PREFIXES = {DAV: "d", CALDAV: "c", CS: "cs"}
XMLNS = " ".join(f'xmlns:{prefix}="{name[1:-1]}"' for name, prefix in PREFIXES.items())


def wanted(root: ET.Element) -> list[str] | None:
    """The names of the properties that a request asks for; None: all."""
    found = root.find(f"{DAV}prop")
    return None if found is None else [one.tag for one in found]


def element(name: str, value: str = "") -> str:
    space, brace, local = name.rpartition("}")
    if prefix := PREFIXES.get(space + brace):
        return f"<{prefix}:{local}>{value}</{prefix}:{local}>"
    return f'<x:{local} xmlns:x="{escape(space[1:])}"/>'


def missing(href: str) -> str:
    return f"<d:response><d:href>{quote(href)}</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>"


def response(href: str, has: Mapping[str, str], asked: list[str] | None) -> str:
    """What a resource at `href` says of itself: the properties it `has` of those `asked` for; None: all."""
    asked = list(has) if asked is None else asked
    there = "".join(element(name, has[name]) for name in asked if name in has)
    gone = "".join(element(name) for name in asked if name not in has)
    said = "".join(
        f"<d:propstat><d:prop>{body}</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>"
        for status, body in (("200 OK", there), ("404 Not Found", gone))
        if body
    )
    return f"<d:response><d:href>{quote(href)}</d:href>{said}</d:response>"


def multistatus(responses: list[str], after: str = "") -> str:
    body = "".join(responses) + after
    return f'<?xml version="1.0" encoding="utf-8"?><d:multistatus {XMLNS}>{body}</d:multistatus>'


def error(condition: str) -> str:
    return f"<d:error {XMLNS}>{element(condition)}</d:error>"
