"""What the unruly server does to iCalendar text; `on` are its switches."""

import re
from collections.abc import Iterator, Mapping

NEW = ("LINK", "CONCEPT", "REFID", "STYLED-DESCRIPTION")  # RFC 9253, RFC 9073
DEFAULTS = (("CLASS", "PUBLIC"), ("TRANSP", "OPAQUE"))
EMOJI_AT_EDGE = re.compile(rb"[\xf0-\xf4][\x80-\xbf]*\r?\n[ \t]|\r?\n[ \t][\xf0-\xf4]")
INVITED = re.compile(r"ATTENDEE(?!.*;SCHEDULE-AGENT=\"?(?:NONE|CLIENT)).*?(mailto:.*)", re.IGNORECASE)


def unfolded(ics: bytes) -> list[str]:
    return [line for line in re.split("\r?\n", re.sub(rb"\r?\n[ \t]", b"", ics).decode()) if line]


def uids(ics: bytes) -> set[str]:
    return {line[4:] for line in unfolded(ics) if line.startswith("UID:")}


def invited(ics: bytes) -> list[str]:
    """Whom a server with implicit scheduling (RFC 6638) writes to about this object."""
    lines = unfolded(ics)
    if not any(re.match("ORGANIZER[:;]", line, re.IGNORECASE) for line in lines):
        return []
    return sorted({found[1] for line in lines if (found := INVITED.match(line))})


def rewritten(ics: bytes, on: Mapping[str, bool | int]) -> bytes:
    """The object as it is stored."""
    lines = [kept for line in unfolded(ics) if (kept := rewritten_line(line, on))]
    if on["rewrites"]:
        lines = [folded(line) for line in reordered(iter(lines[1:]), "VCALENDAR")]
    return "".join(f"{line}\r\n" for line in lines).encode()


def rewritten_line(line: str, on: Mapping[str, bool | int]) -> str | None:
    head, value = re.fullmatch(r'((?:"[^"]*"|[^":])*:)(.*)', line, re.DOTALL).groups()  # type: ignore[union-attr]
    name = re.split("[:;]", head, maxsplit=1)[0].upper()
    if name in NEW and on["drops_new"]:
        return None
    if (name.startswith("X-") and on["unescapes_x"]) or (name == "CATEGORIES" and on["splits_categories"]):
        value = value.replace(r"\,", ",")
    if name in ("URL", "GEO") and on["escapes_url"]:
        value = re.sub(r"(?<!\\);", r"\\;", value)
    if name == "ATTENDEE" and on["mails"] and "SCHEDULE-STATUS" not in head and INVITED.match(line):
        head = f"{head[:-1]};SCHEDULE-STATUS=1.1:"
    return head + value


def reordered(lines: Iterator[str], component: str) -> list[str]:
    """The component whose BEGIN was read: its properties by name and with defaults, then the components in it."""
    own: list[str] = []
    inner: list[str] = []
    for line in lines:
        if line.startswith("END:"):
            break
        if line.startswith("BEGIN:"):
            inner += reordered(lines, line[6:])
        else:
            own.append(line)
    names = {re.split("[:;]", line, maxsplit=1)[0] for line in own}
    if component == "VEVENT":
        own += [f"{name}:{value}" for name, value in (("CLASS", "PUBLIC"), ("TRANSP", "OPAQUE")) if name not in names]
    own.sort(key=lambda line: re.split("[:;]", line, maxsplit=1)[0])
    return [f"BEGIN:{component}", *own, *inner, f"END:{component}"]


def folded(line: str) -> str:
    """The line folded after at most 60 octets, continued by a tab, and never within a character."""
    out, width = "", 0
    for character in line:
        size = len(character.encode())
        if width + size > 60:
            out, width = out + "\r\n\t", 1
        out, width = out + character, width + size
    return out
