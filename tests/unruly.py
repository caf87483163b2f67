"""A CalDAV server that does the worst things real ones were seen doing, each behind a named switch.

It keeps calendars in memory and speaks as much CalDAV (RFC 4791, RFC 6578) as a client needs. `python tests/unruly.py
--port 0` prints the port it took. It is spoken to about itself under `/-/`, without credentials:

    POST /-/switch {"races": false, ...}    set switches (see SWITCHES); answers all of them
    POST /-/next   {"status": 429, "headers": {"Retry-After": "2"}, "count": 3, "body": "", "method": "PUT", "path": "…",
                    "done": false}          the next `count` requests (of this method, with this text in their path) are
                                            answered so; with `done` they are carried out all the same
    POST /-/marker {"text": "…"}            a resource with this text in it is answered 201 and not stored
    GET  /-/mails                           the scheduling mails that left, [{"method", "href", "to"}, …]
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

SWITCHES: dict[str, bool | int] = {
    "overwrites": True,  # If-None-Match: * is not looked at
    "creates_missing": True,  # If-Match where there is nothing: created
    "deletes_anyway": True,  # DELETE does not look at If-Match
    "races": True,  # a pause between a precondition's check and the write, without a lock
    "etags_return": True,  # etags count a resource's writes and start again once it was deleted
    "silent_put": True,  # no ETag on PUT; off: an ETag, although the stored bytes are others
    "rewrites": True,  # properties reordered, defaults added, lines folded differently
    "unescapes_x": True,  # X-A:b\,c becomes X-A:b,c
    "splits_categories": True,  # CATEGORIES:b\,c becomes CATEGORIES:b,c
    "drops_new": True,  # the properties of RFC 9253 and RFC 9073 go
    "escapes_url": True,  # URL and GEO get \; for ;
    "loses_emoji": True,  # an emoji at a fold's edge: 201, and nothing is stored
    "refuses_method": True,  # METHOD in an object: 403
    "same_uid": False,  # on: a second resource of one UID is stored; off: 409
    "knows_any_token": True,  # an unknown sync token: 207 and everything; off: 403 (or 412, below)
    "token_412": False,
    "coarse_ctag": True,  # getctag moves with the second of the last write, not with the write
    "no_sync": False,  # on: neither sync-collection nor sync-token
    "missing_404": True,  # PROPFIND of a missing href: 404; off: 207 with 404 inside
    "multiget_404": True,  # multiget with a missing href: 404 for all; off: 207 with 404 inside
    "replaces_calendar": True,  # PUT on the calendar's own URL replaces what is in it; off: 405
    "refuses_chunked": True,  # a chunked body: 400
    "moved": 0,  # 301, 302, 307 or 308: /calendars/… redirects so to /moved/…, where it always is as well
    "mails": True,  # implicit scheduling (RFC 6638)
}
PAUSE = 0.05  # seconds for which `races` leaves the door open
PRINCIPAL, HOME, MOVED = "/principals/train/", "/calendars/", "/moved/"
DAV, CALDAV, CS = "DAV:", "urn:ietf:params:xml:ns:caldav", "http://calendarserver.org/ns/"
PREFIXES = {DAV: "d", CALDAV: "c", CS: "cs"}
XMLNS = " ".join(f'xmlns:{prefix}="{name}"' for name, prefix in PREFIXES.items())
TOKEN = "http://unruly.example/sync/"
REPORTS = [(CALDAV, "calendar-query"), (CALDAV, "calendar-multiget"), (DAV, "sync-collection")]
SCHEDULED = re.compile(r"^ATTENDEE(?!.*;SCHEDULE-AGENT=\"?(NONE|CLIENT))[^\n]*?(mailto:[^\n]*)", re.IGNORECASE)
EMOJI_AT_EDGE = re.compile(rb"[\xf0-\xf4][\x80-\xbf]*\r?\n[ \t]|\r?\n[ \t][\xf0-\xf4]")


class Answer(Exception):
    """What a request is answered with, from anywhere within."""

    def __init__(self, status: int, body: str | bytes = b"", **headers: str) -> None:
        super().__init__(status)
        self.status, self.body = status, body.encode() if isinstance(body, str) else body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def refusal(status: int, condition: str, namespace: str = DAV) -> Answer:
    body = f"<d:error {XMLNS}><{PREFIXES[namespace]}:{condition}/></d:error>"
    return Answer(status, body, Content_Type="application/xml; charset=utf-8")


class Calendar:
    """Resources by name, and at which revision each name was last written or removed."""

    def __init__(self, displayname: str) -> None:
        self.displayname, self.revision, self.moved_at = displayname, 0, time.time()
        self.resources: dict[str, tuple[str, bytes]] = {}  # etag, bytes
        self.versions: dict[str, int] = {}  # how often a name was written since it was created
        self.touched: dict[str, int] = {}

    def store(self, name: str, ics: bytes | None, *, etags_return: bool) -> None:
        self.revision += 1
        self.moved_at = time.time()
        self.touched[name] = self.revision
        self.versions[name] = self.versions.get(name, 0) + 1
        if ics is None:
            del self.resources[name], self.versions[name]
        else:
            version = self.versions[name] if etags_return else self.revision
            self.resources[name] = f'"gcs{version:08}"', ics


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, credentials: str | None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.authorization = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self.lock = threading.RLock()
        self.calendars: dict[str, Calendar] = {}
        self.switches = dict(SWITCHES)
        self.planned: list[dict] = []
        self.mails: list[dict] = []
        self.marker = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def handle_one(self) -> None:
        try:
            self.read()
            answer = self.dispatch()
        except Answer as raised:
            answer = raised
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD" and answer.status != 204:
            self.wfile.write(answer.body)

    do_OPTIONS = do_PROPFIND = do_REPORT = do_GET = do_HEAD = do_PUT = do_DELETE = do_MKCALENDAR = do_POST = handle_one  # noqa: N815

    def log_message(self, *_said: object) -> None:
        """Nothing is logged."""

    def read(self) -> None:
        self.path = unquote(urlsplit(self.path).path)
        self.body = b""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            if self.on("refuses_chunked"):
                raise Answer(400, "Send a Content-Length.")
        else:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def on(self, switch: str) -> bool | int:
        return self.server.switches[switch]

    def dispatch(self) -> Answer:
        if self.path.startswith("/-/"):
            return self.control()
        if self.server.authorization not in (None, self.headers.get("Authorization")):
            return Answer(401, WWW_Authenticate='Basic realm="unruly"')
        if plan := self.plan():
            if plan.get("done"):
                with contextlib.suppress(Answer):
                    self.serve()
            answer = Answer(plan["status"], plan.get("body", ""))
            answer.headers |= plan.get("headers", {})
            return answer
        return self.serve()

    def plan(self) -> dict | None:
        with self.server.lock:
            for plan in self.server.planned:
                if plan.get("method") in (None, self.command) and plan.get("path", "") in self.path:
                    plan["count"] = plan.get("count", 1) - 1
                    self.server.planned = [one for one in self.server.planned if one.get("count", 1) > 0]
                    return plan
        return None

    def control(self) -> Answer:
        said = json.loads(self.body or b"{}")
        match self.path:
            case "/-/switch":
                if unknown := said.keys() - SWITCHES.keys():
                    return Answer(400, f"There is no switch {', '.join(sorted(unknown))}.")
                self.server.switches.update(said)
                return Answer(200, json.dumps(self.server.switches))
            case "/-/next":
                self.server.planned.append(said)
                return Answer(204)
            case "/-/marker":
                self.server.marker = said["text"]
                return Answer(204)
            case "/-/mails":
                return Answer(200, json.dumps(self.server.mails))
        return Answer(404)

    def serve(self) -> Answer:
        if self.path == "/.well-known/caldav":
            return Answer(301, Location="/")
        if self.path.startswith(HOME) and (status := self.on("moved")):
            return Answer(int(status), Location=quote(MOVED + self.path.removeprefix(HOME)))
        self.base, self.path = (MOVED if self.path.startswith(MOVED) else HOME), re.sub(f"^{MOVED}", HOME, self.path)
        method = getattr(self, self.command.lower(), None)
        return method() if method else Answer(405)

    # -- methods

    def options(self) -> Answer:
        allow = "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, REPORT, MKCALENDAR"
        return Answer(200, DAV="1, 2, 3, access-control, calendar-access, calendar-auto-schedule", Allow=allow)

    def get(self) -> Answer:
        calendar, name = self.find()
        if name not in calendar.resources:
            return Answer(404)
        etag, ics = calendar.resources[name]
        return Answer(200, ics, ETag=etag, Content_Type="text/calendar; charset=utf-8")

    head = get

    def mkcalendar(self) -> Answer:
        if self.path in self.server.calendars:
            return refusal(405, "resource-must-be-null")
        if not re.fullmatch(f"{HOME}[^/]+/", self.path):
            return Answer(409, "Calendars are made in the home, with a slash at the end.")
        said = ET.fromstring(self.body).find(f".//{{{DAV}}}displayname") if self.body else None
        self.server.calendars[self.path] = Calendar((said is not None and said.text) or self.path.split("/")[-2])
        return Answer(201)

    def put(self) -> Answer:
        calendar, name = self.find()
        ics = self.body
        if b"BEGIN:VCALENDAR" not in ics or not uids(ics):
            return refusal(403, "valid-calendar-data", CALDAV)
        if self.on("refuses_method") and re.search(rb"^METHOD[:;]", ics, re.MULTILINE):
            return refusal(403, "valid-calendar-object-resource", CALDAV)
        if not name and not self.on("replaces_calendar"):
            return Answer(405)
        with self.write():
            existed = name in calendar.resources
            if name:
                self.check(calendar.resources.get(name))
            same = [one for one, (_, stored) in calendar.resources.items() if one != name and uids(stored) & uids(ics)]
            if name and same and not self.on("same_uid"):
                return refusal(409, "no-uid-conflict", CALDAV)
            if self.on("races"):
                time.sleep(PAUSE)
            if self.lost(ics):
                return Answer(201)
            for one in () if name else tuple(calendar.resources):
                calendar.store(one, None, etags_return=bool(self.on("etags_return")))
            name = name or f"{min(uids(ics))}.ics"
            with self.server.lock:
                ics = self.schedule(ics, name)
                calendar.store(name, self.rewritten(ics), etags_return=bool(self.on("etags_return")))
                headers = {} if self.on("silent_put") else {"ETag": calendar.resources[name][0]}
        return Answer(204 if existed else 201, **headers)

    def delete(self) -> Answer:
        calendar, name = self.find()
        if not name:
            del self.server.calendars[self.path]
            return Answer(204)
        with self.write():
            if name not in calendar.resources:
                return Answer(404)
            if not self.on("deletes_anyway"):
                self.check(calendar.resources[name])
            if self.on("races"):
                time.sleep(PAUSE)
            with self.server.lock:
                if name not in calendar.resources:
                    return Answer(404)
                self.schedule(calendar.resources[name][1], name)
                calendar.store(name, None, etags_return=bool(self.on("etags_return")))
        return Answer(204)

    def propfind(self) -> Answer:
        asked = wanted(ET.fromstring(self.body)) if self.body else None
        deep = self.headers.get("Depth", "infinity") != "0"
        if self.path in ("/", PRINCIPAL):
            return self.multistatus([self.response(self.path, self.common(self.path), asked)])
        if self.path == HOME:
            found = [self.response(HOME, self.common(HOME), asked)]
            calendars = self.server.calendars.items() if deep else ()
            return self.multistatus(found + [self.response(path, self.properties(one), asked) for path, one in calendars])
        calendar, name = self.find()
        if not name:
            found = [self.response(self.path, self.properties(calendar), asked)]
            return self.multistatus(found + [self.member(calendar, one, asked) for one in calendar.resources if deep])
        if name not in calendar.resources and self.on("missing_404"):
            return Answer(404)
        return self.multistatus([self.member(calendar, name, asked)])

    def report(self) -> Answer:
        calendar, _ = self.find()
        root = ET.fromstring(self.body)
        asked = wanted(root)
        match root.tag.removeprefix(f"{{{CALDAV}}}").removeprefix(f"{{{DAV}}}"):
            case "calendar-query":
                return self.multistatus([self.member(calendar, name, asked) for name in list(calendar.resources)])
            case "calendar-multiget":
                hrefs = [unquote(urlsplit(one.text or "").path) for one in root.findall(f"{{{DAV}}}href")]
                names = [href.rpartition("/")[2] for href in hrefs]
                if self.on("multiget_404") and not calendar.resources.keys() >= set(names):
                    return Answer(404)
                return self.multistatus([self.member(calendar, name, asked) for name in names])
            case "sync-collection" if not self.on("no_sync"):
                return self.sync(calendar, root.findtext(f"{{{DAV}}}sync-token") or "", asked)
        return refusal(403, "supported-report")

    def sync(self, calendar: Calendar, token: str, asked: list[str]) -> Answer:
        number = token.removeprefix(TOKEN)
        known = number.isdigit() and int(number) <= calendar.revision
        if token and not known and not self.on("knows_any_token"):
            return refusal(412 if self.on("token_412") else 403, "valid-sync-token")
        with self.server.lock:
            names = [one for one, at in calendar.touched.items() if at > int(number)] if known else list(calendar.resources)
            found = [self.member(calendar, name, asked) for name in names]
            return self.multistatus(found, f"<d:sync-token>{TOKEN}{calendar.revision}</d:sync-token>")

    # -- what they share

    def find(self) -> tuple[Calendar, str]:
        """The calendar of the path, and the name in it; `path` ends as the calendar's own."""
        collection, _, name = self.path.rpartition("/")
        if collection + "/" not in self.server.calendars:
            raise Answer(409 if self.command == "PUT" else 404)
        self.path = collection + "/"
        return self.server.calendars[self.path], name

    def write(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.on("races") else self.server.lock

    def check(self, standing: tuple[str, bytes] | None) -> None:
        expected = self.headers.get("If-Match")
        if self.headers.get("If-None-Match") == "*" and standing and not self.on("overwrites"):
            raise Answer(412)
        if expected is None or (standing is None and self.on("creates_missing")):
            return
        if standing is None or expected not in ("*", standing[0]):
            raise Answer(412)

    def lost(self, ics: bytes) -> bool:
        marked = bool(self.server.marker) and self.server.marker.encode() in ics
        return marked or bool(self.on("loses_emoji") and EMOJI_AT_EDGE.search(ics))

    def schedule(self, ics: bytes, name: str) -> bytes:
        lines = unfolded(ics)
        if not self.on("mails") or not any(re.match("ORGANIZER[:;]", line, re.IGNORECASE) for line in lines):
            return ics
        for n, line in enumerate(lines):
            if found := SCHEDULED.match(line):
                self.server.mails.append({"method": self.command, "href": self.path + name, "to": found[2]})
                lines[n] = line.replace("ATTENDEE", "ATTENDEE;SCHEDULE-STATUS=1.1", 1)
        return "".join(f"{line}\r\n" for line in lines).encode()

    def rewritten(self, ics: bytes) -> bytes:
        lines = [rewritten for line in unfolded(ics) if (rewritten := self.line(line))]
        if not self.on("rewrites"):
            return "".join(f"{line}\r\n" for line in lines).encode()
        return "".join(folded(line) for line in reordered(iter(lines[1:]), "VCALENDAR")).encode()

    def line(self, line: str) -> str | None:
        name, value = re.match(r'([^:;]+)(?:;(?:"[^"]*"|[^":])*)?:(.*)', line, re.DOTALL).group(1, 2)  # type: ignore[union-attr]
        name, head = name.upper(), line.removesuffix(value)
        if name.startswith("X-") and self.on("unescapes_x"):
            return head + value.replace(r"\,", ",")
        if name == "CATEGORIES" and self.on("splits_categories"):
            return head + value.replace(r"\,", ",")
        if name in ("URL", "GEO") and self.on("escapes_url"):
            return head + re.sub(r"(?<!\\);", r"\\;", value)
        return None if name in ("LINK", "CONCEPT", "REFID", "STYLED-DESCRIPTION") and self.on("drops_new") else line

    def common(self, path: str) -> dict[str, str]:
        return {
            f"{{{DAV}}}resourcetype": "<d:collection/>" + ("<d:principal/>" if path == PRINCIPAL else ""),
            f"{{{DAV}}}displayname": "train",
            f"{{{DAV}}}current-user-principal": f"<d:href>{PRINCIPAL}</d:href>",
            f"{{{CALDAV}}}calendar-home-set": f"<d:href>{HOME}</d:href>",
        }

    def properties(self, calendar: Calendar) -> dict[str, str]:
        reports = "".join(
            f"<d:supported-report><d:report><{PREFIXES[space]}:{name}/></d:report></d:supported-report>"
            for space, name in REPORTS
            if not (self.on("no_sync") and name == "sync-collection")
        )
        return (
            self.common(HOME)
            | {
                f"{{{DAV}}}resourcetype": "<d:collection/><c:calendar/>",
                f"{{{DAV}}}displayname": escape(calendar.displayname),
                f"{{{CALDAV}}}supported-calendar-component-set": '<c:comp name="VEVENT"/>',
                f"{{{CS}}}getctag": str(int(calendar.moved_at) if self.on("coarse_ctag") else calendar.revision),
                f"{{{DAV}}}supported-report-set": reports,
            }
            | ({} if self.on("no_sync") else {f"{{{DAV}}}sync-token": f"{TOKEN}{calendar.revision}"})
        )

    def member(self, calendar: Calendar, name: str, asked: list[str] | None) -> str:
        if (found := calendar.resources.get(name)) is None:
            href = quote(self.base + (self.path + name).removeprefix(HOME))
            return f"<d:response><d:href>{href}</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>"
        etag, ics = found
        has = {
            f"{{{DAV}}}getetag": escape(etag),
            f"{{{DAV}}}resourcetype": "",
            f"{{{DAV}}}getcontenttype": "text/calendar; charset=utf-8; component=VEVENT",
            f"{{{CALDAV}}}calendar-data": escape(ics.decode(), {"\r": "&#13;"}),
        }
        return self.response(self.path + name, has, asked or [one for one in has if "calendar-data" not in one])

    def response(self, path: str, has: dict[str, str], asked: list[str] | None) -> str:
        asked = list(has) if asked is None else asked
        there = "".join(element(name, has[name]) for name in asked if name in has)
        gone = "".join(element(name, "") for name in asked if name not in has)
        stats = [("200 OK", there), ("404 Not Found", gone)]
        said = "".join(
            f"<d:propstat><d:prop>{body}</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>"
            for status, body in stats
            if body
        )
        href = self.base + path.removeprefix(HOME) if path.startswith(HOME) else path
        return f"<d:response><d:href>{quote(href)}</d:href>{said}</d:response>"

    def multistatus(self, responses: list[str], after: str = "") -> Answer:
        body = f'<?xml version="1.0" encoding="utf-8"?><d:multistatus {XMLNS}>{"".join(responses)}{after}</d:multistatus>'
        return Answer(207, body, Content_Type="application/xml; charset=utf-8")


def element(name: str, body: str) -> str:
    space, _, local = name[1:].partition("}")
    if space in PREFIXES:
        return f"<{PREFIXES[space]}:{local}>{body}</{PREFIXES[space]}:{local}>"
    return f'<x:{local} xmlns:x="{escape(space)}"/>'


def wanted(root: ET.Element) -> list[str] | None:
    """The names of the properties that a request asks for; None: all."""
    found = root.find(f"{{{DAV}}}prop")
    return None if found is None else [one.tag for one in found]


def unfolded(ics: bytes) -> list[str]:
    return [line for line in re.split("\r?\n", re.sub(rb"\r?\n[ \t]", b"", ics).decode()) if line]


def uids(ics: bytes) -> set[str]:
    return {line[4:] for line in unfolded(ics) if line.startswith("UID:")}


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
    return out + "\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()
    server = Server(options.port, options.user and f"{options.user}:{options.password}")
    print(server.server_address[1], flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
