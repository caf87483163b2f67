"""What the unruly server does with a WebDAV request: its calendars, and one method for each of the protocol's."""

import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from email.message import Message
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from support.unruly_text import EMOJI_AT_EDGE, invited, rewritten, uids
from support.unruly_xml import CALDAV, CS, DAV, element, error, missing, multistatus, response, wanted

PAUSE = 0.05  # seconds for which `races` leaves the door open
XML = "application/xml; charset=utf-8"
PRINCIPAL, HOME, MOVED = "/principals/train/", "/calendars/", "/moved/"
TOKEN = "http://unruly.example/sync/"


class Answer(Exception):
    """What a request is answered with, from anywhere within."""

    def __init__(self, status: int, body: str | bytes = b"", **headers: str) -> None:
        super().__init__(status)
        self.status, self.body = status, body.encode() if isinstance(body, str) else body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def refusal(status: int, condition: str) -> Answer:
    return Answer(status, error(condition), Content_Type=XML)


class Calendar:
    """Resources by name, and at which revision each name was last written or removed."""

    def __init__(self, path: str, displayname: str) -> None:
        self.path, self.displayname, self.revision, self.moved_at = path, displayname, 0, time.time()
        self.resources: dict[str, tuple[str, bytes]] = {}  # etag, bytes
        self.writes: dict[str, int] = {}  # how often a name was written since it was created
        self.touched: dict[str, int] = {}

    def store(self, name: str, ics: bytes | None, on: Mapping[str, bool | int]) -> str:
        """Store or, without bytes, remove; the new etag."""
        self.revision, self.moved_at = self.revision + 1, time.time()
        self.touched[name] = self.revision
        self.writes[name] = self.writes.get(name, 0) + 1
        etag = f'"gcs{self.writes[name]:08}"' if on["etags_return"] else f'"r{self.revision}"'
        if ics is None:
            del self.resources[name], self.writes[name]
        else:
            self.resources[name] = etag, ics
        return etag

    def token(self) -> str:
        return f"<d:sync-token>{TOKEN}{self.revision}</d:sync-token>"


class Store:
    """What all requests share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calendars: dict[str, Calendar] = {}
        self.mails: list[dict[str, str]] = []
        self.marker = ""


class Request:
    """One request; `on` are the switches."""

    def __init__(
        self, method: str, path: str, headers: Message, body: bytes, store: Store, on: Mapping[str, bool | int]
    ) -> None:
        self.method, self.path, self.headers, self.body, self.store, self.on = method, path, headers, body, store, on
        self.shown = HOME

    def answer(self) -> Answer:
        if self.path == "/.well-known/caldav":
            return Answer(301, Location="/")
        if self.path.startswith(HOME) and (status := self.on["moved"]):
            return Answer(int(status), Location=quote(MOVED + self.path.removeprefix(HOME)))
        self.shown = MOVED if self.path.startswith(MOVED) else HOME
        self.path = re.sub(f"^{MOVED}", HOME, self.path)
        method = getattr(self, self.method.lower(), None)
        try:
            return method() if method else Answer(405)
        except Answer as raised:
            return raised
        except ET.ParseError as broken:
            return Answer(400, str(broken))

    def find(self) -> tuple[Calendar, str]:
        """The calendar of the path, and the name in it: empty for the calendar itself."""
        collection, slash, name = self.path.rpartition("/")
        if collection + slash not in self.store.calendars:
            raise Answer(409 if self.method == "PUT" else 404)
        return self.store.calendars[collection + slash], name

    def options(self) -> Answer:
        allow = "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, REPORT, MKCALENDAR"
        return Answer(200, DAV="1, 3, access-control, calendar-access, calendar-auto-schedule", Allow=allow)

    def get(self) -> Answer:
        calendar, name = self.find()
        if not (found := calendar.resources.get(name)):
            return Answer(404)
        return Answer(200, found[1], ETag=found[0], Content_Type="text/calendar; charset=utf-8")

    head = get

    def mkcalendar(self) -> Answer:
        if self.path in self.store.calendars:
            return refusal(405, f"{DAV}resource-must-be-null")
        if not re.fullmatch(f"{HOME}[^/]+/", self.path):
            return Answer(409, "Calendars are made in the home, with a slash at the end.")
        said = ET.fromstring(self.body).findtext(f".//{DAV}displayname") if self.body else None
        self.store.calendars[self.path] = Calendar(self.path, said or self.path.split("/")[-2])
        return Answer(201)

    def put(self) -> Answer:
        calendar, name = self.find()
        if b"BEGIN:VCALENDAR" not in self.body or not (own := uids(self.body)):
            return refusal(403, f"{CALDAV}valid-calendar-data")
        if self.on["refuses_method"] and re.search(rb"^METHOD[:;]", self.body, re.MULTILINE):
            return refusal(403, f"{CALDAV}valid-calendar-object-resource")
        if not name:
            return self.replace(calendar, f"{min(own)}.ics")
        with self.turn():
            with self.store.lock:
                self.check(calendar.resources.get(name), create=self.on["creates_missing"])
                others = [ics for other, (_, ics) in calendar.resources.items() if other != name]
                if any(uids(ics) & own for ics in others) and not self.on["same_uid"]:
                    return refusal(409, f"{CALDAV}no-uid-conflict")
            self.dawdle()
            if self.lost():
                return Answer(201)
            with self.store.lock:
                status = 204 if name in calendar.resources else 201
                self.schedule(self.body, calendar.path + name)
                etag = calendar.store(name, rewritten(self.body, self.on), self.on)
        return Answer(status) if self.on["silent_put"] else Answer(status, ETag=etag)

    def delete(self) -> Answer:
        calendar, name = self.find()
        if not name:
            del self.store.calendars[calendar.path]
            return Answer(204)
        with self.turn():
            if not self.on["deletes_anyway"]:
                self.check(calendar.resources.get(name), create=False)
            self.dawdle()
            with self.store.lock:
                if not (found := calendar.resources.get(name)):
                    return Answer(404)
                self.schedule(found[1], calendar.path + name)
                calendar.store(name, None, self.on)
        return Answer(204)

    def propfind(self) -> Answer:
        asked = wanted(ET.fromstring(self.body)) if self.body else None
        deep = self.headers.get("Depth", "infinity") != "0"
        with self.store.lock:
            if self.path in ("/", PRINCIPAL):
                return self.multistatus([response(self.path, self.common(self.path), asked)])
            if self.path == HOME:
                calendars = list(self.store.calendars.values()) if deep else []
                found = [response(self.href(HOME), self.common(HOME), asked)]
                return self.multistatus(found + [self.collection(one, asked) for one in calendars])
            calendar, name = self.find()
            if not name:
                members = [self.member(calendar, one, asked) for one in calendar.resources] if deep else []
                return self.multistatus([self.collection(calendar, asked), *members])
            if name not in calendar.resources and self.on["missing_404"]:
                return Answer(404)
            return self.multistatus([self.member(calendar, name, asked)])

    def report(self) -> Answer:
        calendar, _ = self.find()
        root = ET.fromstring(self.body)
        asked = wanted(root)
        with self.store.lock:
            if root.tag == f"{CALDAV}calendar-query":
                return self.multistatus([self.member(calendar, name, asked) for name in calendar.resources])
            if root.tag == f"{CALDAV}calendar-multiget":
                names = [unquote(one.text or "").rpartition("/")[2] for one in root.findall(f"{DAV}href")]
                if self.on["multiget_404"] and not calendar.resources.keys() >= set(names):
                    return Answer(404)
                return self.multistatus([self.member(calendar, name, asked) for name in names])
            if root.tag == f"{DAV}sync-collection" and not self.on["no_sync"]:
                return self.sync(calendar, root.findtext(f"{DAV}sync-token") or "", asked)
        return refusal(403, f"{DAV}supported-report")

    def sync(self, calendar: Calendar, token: str, asked: list[str] | None) -> Answer:
        number = token.removeprefix(TOKEN)
        known = number.isdigit() and int(number) <= calendar.revision
        if token and not known and not self.on["knows_any_token"]:
            return refusal(412 if self.on["token_412"] else 403, f"{DAV}valid-sync-token")
        names = [name for name, at in calendar.touched.items() if at > int(number)] if known else list(calendar.resources)
        return self.multistatus([self.member(calendar, name, asked) for name in names], calendar.token())

    def turn(self) -> AbstractContextManager[object]:
        """Nobody else writes meanwhile, unless writers are let race."""
        return nullcontext() if self.on["races"] else self.store.lock

    def dawdle(self) -> None:
        """What a precondition found may be otherwise by the time of the write."""
        if self.on["races"]:
            time.sleep(PAUSE)

    def check(self, standing: tuple[str, bytes] | None, *, create: bool | int) -> None:
        expected = self.headers.get("If-Match")
        if self.headers.get("If-None-Match") == "*" and standing and not self.on["overwrites"]:
            raise Answer(412)
        if expected and not (standing is None and create) and (not standing or expected not in ("*", standing[0])):
            raise Answer(412)

    def replace(self, calendar: Calendar, name: str) -> Answer:
        if not self.on["replaces_calendar"]:
            return Answer(405)
        with self.store.lock:
            for one in list(calendar.resources):
                calendar.store(one, None, self.on)
            calendar.store(name, rewritten(self.body, self.on), self.on)
        return Answer(201)

    def lost(self) -> bool:
        marked = bool(self.store.marker) and self.store.marker.encode() in self.body
        return marked or bool(self.on["loses_emoji"] and EMOJI_AT_EDGE.search(self.body))

    def schedule(self, ics: bytes, href: str) -> None:
        for recipient in invited(ics) if self.on["mails"] else ():
            self.store.mails.append({"method": self.method, "href": href, "to": recipient})

    def common(self, path: str) -> dict[str, str]:
        return {
            f"{DAV}resourcetype": "<d:collection/>" + ("<d:principal/>" if path == PRINCIPAL else ""),
            f"{DAV}displayname": "train",
            f"{DAV}current-user-principal": f"<d:href>{PRINCIPAL}</d:href>",
            f"{CALDAV}calendar-home-set": f"<d:href>{HOME}</d:href>",
        }

    def collection(self, calendar: Calendar, asked: list[str] | None) -> str:
        reports = [f"{CALDAV}calendar-query", f"{CALDAV}calendar-multiget", f"{DAV}sync-collection"]
        has = self.common(calendar.path) | {
            f"{DAV}resourcetype": "<d:collection/><c:calendar/>",
            f"{DAV}displayname": escape(calendar.displayname),
            f"{CALDAV}supported-calendar-component-set": '<c:comp name="VEVENT"/>',
            f"{CS}getctag": str(int(calendar.moved_at) if self.on["coarse_ctag"] else calendar.revision),
        }
        if self.on["no_sync"]:
            reports.pop()
        else:
            has[f"{DAV}sync-token"] = f"{TOKEN}{calendar.revision}"
        has[f"{DAV}supported-report-set"] = "".join(
            f"<d:supported-report><d:report>{element(name)}</d:report></d:supported-report>" for name in reports
        )
        return response(self.href(calendar.path), has, asked)

    def member(self, calendar: Calendar, name: str, asked: list[str] | None) -> str:
        href = self.href(calendar.path + name)
        if not (found := calendar.resources.get(name)):
            return missing(href)
        has = {
            f"{DAV}getetag": escape(found[0]),
            f"{DAV}resourcetype": "",
            f"{DAV}getcontenttype": "text/calendar; charset=utf-8; component=VEVENT",
        }
        data = {f"{CALDAV}calendar-data": escape(found[1].decode(), {"\r": "&#13;"})}
        return response(href, has | data if asked else has, asked)

    def href(self, path: str) -> str:
        """The path as it was asked for."""
        return self.shown + path.removeprefix(HOME)

    def multistatus(self, responses: list[str], after: str = "") -> Answer:
        return Answer(207, multistatus(responses, after), Content_Type=XML)
