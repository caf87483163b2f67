"""The calendar on a CalDAV server (RFC 4791), followed by sync-collection (RFC 6578) or, where there is none, by etags.

Nothing is believed of a server that it has not shown. A success says that something was stored, not what; a failure that is
no plain 412 does not say that nothing was. So after either, only a read tells, and a write is known again by its mark, a
plain token that no server rewrites. Servers that do not keep the preconditions of writes apart are found out by `probe`; on
them every write is preceded by a read and followed by another one after a settling time, in which the last of several
writers that overwrote each other remains.

What a 403, 409 or 412 means is in the DAV:error element of the answer (RFC 4918, section 16), since servers answer alike to
a lost race, to a UID that stands at another href, and to iCalendar that they do not take.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from calsync.calendars import NOTHING, Changes, Known, Promise, Resource, SyncToken
from calsync.calendars.dav import Dav, Failed
from calsync.calendars.lastknown import LastKnown
from calsync.calendars.probing import Answer, Findings, probe
from calsync.errors import Changed, Refused, Unreachable
from calsync.records import MARK

SETTLING = 2.0
"""How long, in seconds, to wait before a write counts on a server that does not keep preconditions."""
PROBE = "calsync-probe-"
"""How the hrefs begin of what `probe` puts on the calendar and takes off again; they are never looked at otherwise."""

_BATCH = 100
_CTAG_RESOLUTION = 2.0  # some servers count in whole seconds

_XML = '<?xml version="1.0" encoding="utf-8"?>'
_NAMES = 'xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:S="http://calendarserver.org/ns/"'
_SHAPE = (
    f"{_XML}<propfind {_NAMES}><prop><resourcetype/><displayname/><supported-report-set/><sync-token/><S:getctag/></prop>"
    "</propfind>"
)
_CTAG = f"{_XML}<propfind {_NAMES}><prop><S:getctag/></prop></propfind>"
_LISTING = f"{_XML}<propfind {_NAMES}><prop><getetag/><resourcetype/><S:getctag/></prop></propfind>"
_SYNC = (
    f"{_XML}<sync-collection {_NAMES}><sync-token>{{token}}</sync-token><sync-level>1</sync-level>"
    "<prop><getetag/>{data}</prop></sync-collection>"
)
_MULTIGET = f"{_XML}<C:calendar-multiget {_NAMES}><prop><getetag/><C:calendar-data/></prop>{{hrefs}}</C:calendar-multiget>"
_GETCTAG, _GETETAG = "{http://calendarserver.org/ns/}getctag", "{DAV:}getetag"


@dataclass(frozen=True, slots=True)
class _Collection:
    """The calendar collection: its address (with a slash at the end), and whether it has sync-collection."""

    url: str
    syncs: bool

    def address(self, href: str) -> str:
        return self.url + quote(href, safe="")

    def name(self, href: str) -> str | None:
        """The href within the collection of what an answer names by its path; None for the collection and for probes."""
        path = unquote(urlsplit(self.url).path)
        name = href.rstrip("/").rpartition("/")[2]
        is_resource = name and not href.endswith("/") and href != path.rstrip("/") and not name.startswith(PROBE)
        return name if is_resource else None


class CalDavCalendar:
    """A `Calendar` on a CalDAV server.

    `url` is the address of the calendar collection, or of the principal, whose calendar called `name` is then taken.
    `timeout` is in seconds; `pause` waits for so many, which takes a while on servers that do not keep preconditions.
    `notes` keep what trying out a server has told for the next process.
    """

    def __init__(
        self,
        url: str,
        name: str,
        username: str | None,
        password: SecretStr | None,
        timeout: int,
        *,
        pause: Callable[[float], object] = time.sleep,
        notes: LastKnown | None = None,
    ) -> None:
        self._url, self._name, self._pause = url, name, pause
        self._dav = Dav(url, username, password, timeout)
        self._found: _Collection | None = None
        self._discovering, self._probing = threading.Lock(), threading.Lock()
        self._careless: bool | None = None
        self._notes = notes
        self._inline = True
        self._ctag: tuple[str, float] = ("", 0.0)

    # Following

    def changes(
        self,
        since: SyncToken | None,
        known: Mapping[str, Known] = NOTHING,
        after: datetime | None = None,  # noqa: ARG002
        besides: Collection[str] = (),  # noqa: ARG002
    ) -> Changes:
        """See `Calendar.changes`; a server tells of everything."""
        if since is None:
            known = NOTHING
        try:
            return self._by_sync(since, known) if self._collection.syncs else self._by_etags(since, known)
        except Failed as failed:
            raise self._dav.verdict(failed) from failed

    def _by_sync(self, since: SyncToken | None, known: Mapping[str, Known]) -> Changes:
        if since is None:
            return self._compared(since, known, *self._listed_by_sync())
        try:
            changed, removed, token = self._synced(since, inline=self._inline)
        except Failed as failed:
            if failed.status >= 500:
                raise
            # The token is not known any more (RFC 6578, section 3.8), or calendar-data is not to be had in this report.
            if "valid-sync-token" not in failed.said:
                self._inline = False
            return self._compared(since, known, *self._listed_by_sync())
        moved = token != since and not (changed or removed)
        if moved or any(known[found.href].etag == found.etag for found in changed if found.href in known):
            # Some servers answer everything to a token they do not know, and then nothing tells what was removed. And on
            # some an etag comes back when a resource is made anew, so what the report names counts as changed either way.
            told = {found.href for found in changed}
            others = {href: found for href, found in known.items() if href not in told}
            found = self._compared(since, others, *self._listed_by_sync())
            gone = tuple(href for href in told & known.keys() if href not in {one.href for one in found.changed})
            return replace(found, removed=(*found.removed, *gone))
        return self._filled(token, changed, removed)

    def _synced(self, token: str, *, inline: bool) -> tuple[tuple[Resource, ...], tuple[str, ...], str]:
        """What one or more sync-collection reports tell; bytes are empty where they did not come with it."""
        changed: dict[str, Resource] = {}
        removed: set[str] = set()
        while True:
            data = "<C:calendar-data/>" if inline else ""
            body = _SYNC.format(token=_escaped(token), data=data)
            answer = self._dav.ask("REPORT", self._collection.url, body, {"Depth": "0"})
            found = self._dav.parsed(answer, answer.parse_sync_collection)
            for one in found.changed:
                if name := self._collection.name(one.href):
                    changed[name] = Resource(name, _bare(one.etag), (one.calendar_data or "").encode())
                    removed.discard(name)
            for href in found.deleted:
                if name := self._collection.name(href):
                    removed.add(name)
                    changed.pop(name, None)
            if not found.sync_token or (found.truncated and found.sync_token == token):
                raise Unreachable(f"The calendar at {self._url} does not say which state it is in.")
            token = found.sync_token
            if not found.truncated:
                return tuple(changed.values()), tuple(sorted(removed)), token

    def _listed_by_sync(self) -> tuple[dict[str, str], str]:
        """The etag of everything on the calendar, and the sync token."""
        changed, _, token = self._synced("", inline=False)
        return {found.href: found.etag for found in changed}, token

    def _by_etags(self, since: SyncToken | None, known: Mapping[str, Known]) -> Changes:
        if since is not None and since.startswith("ctag "):
            answer = self._dav.ask("PROPFIND", self._collection.url, _CTAG, {"Depth": "0"})
            found = next(iter(self._dav.parsed(answer, answer.parse_propfind)), None)
            ctag = str(found.properties.get(_GETCTAG)) if found else ""
            if since == f"ctag {ctag}":
                return Changes(since, (), (), complete=False)
        answer = self._dav.ask("PROPFIND", self._collection.url, _LISTING, {"Depth": "1"})
        ctag, listed = "", {}
        for found in self._dav.parsed(answer, answer.parse_propfind):
            name = self._collection.name(found.href)
            if name is None and found.properties.get(_GETCTAG):
                ctag = str(found.properties[_GETCTAG])
            elif name is not None and found.properties.get(_GETETAG):
                listed[name] = _bare(found.properties[_GETETAG])
        return self._compared(since, known, listed, self._token_of(ctag))

    def _token_of(self, ctag: str) -> str:
        """The token of a listing: one that a ctag can confirm only if no later change can have the same ctag."""
        if ctag != self._ctag[0]:
            self._ctag = (ctag, time.monotonic())
        settled = bool(ctag) and time.monotonic() - self._ctag[1] > _CTAG_RESOLUTION
        return f"ctag {ctag}" if settled else "listed"

    def _compared(
        self, since: SyncToken | None, known: Mapping[str, Known], listed: Mapping[str, str], token: str
    ) -> Changes:
        """What became of `known` to be as `listed`."""
        changed = tuple(
            Resource(href, etag, b"") for href, etag in listed.items() if href not in known or known[href].etag != etag
        )
        removed = tuple(href for href in known if href not in listed)
        return self._filled(token, changed, removed, complete=since is None)

    def _filled(
        self, token: str, changed: tuple[Resource, ...], removed: tuple[str, ...], *, complete: bool = False
    ) -> Changes:
        """The changes with the bytes that are missing; what is gone by now counts as removed."""
        missing = [found.href for found in changed if not found.ics]
        fetched = self._fetch(missing)
        gone = tuple(href for href in missing if href not in fetched)
        filled = (found if found.ics else fetched.get(found.href) for found in changed)
        present = tuple(found for found in filled if found is not None)
        return Changes(token, present, () if complete else (*removed, *gone), complete)

    def _fetch(self, hrefs: list[str]) -> dict[str, Resource]:
        """The resources at these hrefs, as they stand; those that do not exist are left out."""
        found: dict[str, Resource] = {}
        for start in range(0, len(hrefs), _BATCH):
            wanted = hrefs[start : start + _BATCH]
            paths = "".join(f"<href>{_escaped(urlsplit(self._collection.address(href)).path)}</href>" for href in wanted)
            try:
                answer = self._dav.ask("REPORT", self._collection.url, _MULTIGET.format(hrefs=paths), {})
            except Failed as failed:
                if failed.status not in (404, 410):
                    raise self._dav.verdict(failed) from failed
                if len(wanted) > 1:  # some servers have none of them where one is missing
                    for href in wanted:
                        found |= self._fetch([href])
                continue
            for one in self._dav.parsed(answer, answer.parse_calendar_query):
                name = self._collection.name(one.href)
                if name is not None and one.calendar_data:
                    found[name] = Resource(name, _bare(one.etag), one.calendar_data.encode())
        return found

    def forget(self, over: Mapping[str, datetime]) -> None:
        """See `Calendar.forget`; on a server there is no place to note it."""

    # Writing

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """See `Calendar.put`; the etag is empty where the server does not tell it."""
        careless = self._is_careless()
        if careless:
            self._expect(href, etag)
        try:
            told = self._put(href, ics, etag)
        except Failed as failed:
            told = self._outcome(href, ics, etag, failed)
        if careless:
            self._pause(SETTLING)
            standing = self._fetch([href]).get(href)
            if standing is not None and standing.etag != etag and marks(standing.ics) != marks(ics):
                raise Changed(f"{href} was overwritten.")
        return Resource(href, told, ics)

    def _put(self, href: str, ics: bytes, etag: str | None) -> str:
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        headers = {"Content-Type": "text/calendar; charset=utf-8", **condition}
        answer = self._dav.ask("PUT", self._collection.address(href), ics, headers)
        return _bare(answer.headers.get("ETag"))

    def delete(self, href: str, *, etag: str) -> None:
        """See `Calendar.delete`."""
        if self._is_careless():
            self._expect(href, etag)
        # No cancellation is sent to attendees, whom only people can have put there (RFC 6638, section 8.1).
        headers = {"If-Match": f'"{etag}"', "Schedule-Reply": "F"}
        try:
            self._dav.ask("DELETE", self._collection.address(href), "", headers)
        except Failed as failed:
            if failed.status in (404, 410, 412):
                raise Changed(f"{href} was changed or is gone.") from None
            standing = self._fetch([href]).get(href)
            if standing is None:
                return
            if standing.etag != etag:
                raise Changed(f"{href} was changed.") from None
            raise self._dav.verdict(failed) from failed

    def _expect(self, href: str, etag: str | None) -> None:
        standing = self._fetch([href]).get(href)
        if (None if standing is None else standing.etag) != etag:
            raise Changed(f"{href} exists already." if etag is None else f"{href} was changed or is gone.")

    def _outcome(self, href: str, ics: bytes, etag: str | None, failed: Failed) -> str:
        """The etag of a write that stands although it was answered with an error; raises what the error means if not."""
        standing = None if failed.status == 401 else self._fetch([href]).get(href)
        if standing is not None and marks(standing.ics) == marks(ics) != frozenset():
            return standing.etag
        if failed.status == 401:
            raise self._dav.verdict(failed)
        if (None if standing is None else standing.etag) != etag or (failed.status == 412 and not failed.said):
            raise Changed(f"{href} exists already." if etag is None else f"{href} was changed or is gone.")
        if "no-uid-conflict" in failed.said:
            raise Refused(
                f"The UID of {href} stands on the calendar under another name, as a client writes a copy; remove the copy."
            )
        if failed.status == 412 and failed.said <= {"precondition-failed", "if-match", "if-none-match"}:
            raise Changed(f"{href} was changed.")
        raise self._dav.verdict(failed)

    def _is_careless(self) -> bool:
        with self._probing:
            if self._careless is None and self._notes is not None:
                self._careless = {"yes": True, "no": False}.get(self._notes.note("careless") or "")
            if self._careless is None:
                self._try_out()
            assert self._careless is not None  # what trying out tells
            return self._careless

    # Probing

    def probe(self) -> tuple[Promise, ...]:
        """See `Calendar.probe`; other clients of the server may see the events come and go."""
        with self._probing:
            found = self._try_out()
        syncs = Promise(
            self._collection.syncs,
            "It tells what changed (sync-collection)"
            if self._collection.syncs
            else "It does not tell what changed; calsync compares ctag and etags",
        )
        kind = Promise(
            not self._careless,
            "So one conditional write is enough"
            if not self._careless
            else f"So calsync reads before each write, and once more {SETTLING:.0f} s after it; two writers that are "
            "slower than that can still overwrite each other",
        )
        return (*found.preconditions, kind, *found.content, syncs)

    def _try_out(self) -> Findings:
        try:
            found = probe(PROBE, self._send)
        except Failed as failed:
            raise self._dav.verdict(failed) from failed
        self._careless = not all(promise.holds for promise in found.preconditions)
        if self._notes is not None:
            self._notes.take_note("careless", "yes" if self._careless else "no")
        return found

    def _send(self, method: str, href: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request, whatever its answer; only a server that lets calsync do nothing at all is refused."""
        try:
            kind = {"Content-Type": "text/calendar; charset=utf-8"} if body else {}
            answer = self._dav.ask(method, self._collection.address(href), body, {**kind, **headers})
        except Failed as failed:
            if failed.status == 401 or (method == "PUT" and failed.status in (403, 404, 405, 507) and not failed.said):
                raise
            return Answer(failed.status, "", b"")
        return Answer(answer.status, str(answer.headers.get("ETag", "")), answer.raw.encode())

    # Asking

    @property
    def _collection(self) -> _Collection:
        with self._discovering:
            if self._found is None:
                self._found = self._discover()
            return self._found

    def _discover(self) -> _Collection:
        try:
            url, answer = self._dav.ask_along("PROPFIND", self._url, _SHAPE, {"Depth": "0"})
            found = next(iter(self._dav.parsed(answer, answer.parse_propfind)), None)
            if found is None or "{DAV:}resourcetype" not in found.properties:
                raise Failed(404)  # as some say it within their answer
            properties: Mapping[str, Any] = found.properties
            if "{urn:ietf:params:xml:ns:caldav}calendar" not in (properties["{DAV:}resourcetype"] or []):
                return self._discover_by_name(url)
        except Failed as failed:
            if failed.status == 404 and not self._url.endswith("/"):
                self._url += "/"
                return self._discover()
            raise self._dav.verdict(failed) from failed
        reports = properties.get("{DAV:}supported-report-set") or []
        syncs = "{DAV:}sync-collection" in reports and bool(properties.get("{DAV:}sync-token"))
        return _Collection(url.rstrip("/") + "/", syncs)

    def _discover_by_name(self, url: str) -> _Collection:
        """The principal's calendar that is called as the configuration says."""
        calendars = self._dav.calendars(url)
        named = [address for name, address in calendars if name == self._name]
        if len(named) != 1:
            there = ", ".join(sorted(f'"{name}"' for name, _ in calendars)) or "none"
            raise Refused(
                f'At {url} {"no calendar is" if not named else "several calendars are"} called "{self._name}"; there are: '
                f"{there}. Make one on the server, set calendar.name, or write the calendar's own address as calendar.url."
            )
        self._url = named[0]
        return self._discover()

    def close(self) -> None:
        """See `Calendar.close`; waits for requests that are under way."""
        self._dav.close()


def marks(ics: bytes) -> frozenset[bytes]:
    """The marks of the write that a resource is of."""
    unfolded = re.sub(rb"\r?\n[ \t]", b"", ics)
    return frozenset(re.findall(rb"^" + MARK.encode() + rb"[:;].*?\r?$", unfolded, re.MULTILINE))


def _bare(etag: Any) -> str:
    """An etag without its quotes. A proxy that compresses makes a weak one of it, which the server knows as its own."""
    return str(etag or "").strip().removeprefix("W/").strip('"')


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
