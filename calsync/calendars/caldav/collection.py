"""A calendar collection on a CalDAV server: where it is, what stands on it, and what changed (RFC 4791, RFC 6578).

Changes are asked for with sync-collection or, where there is none, by comparing etags. Nothing is believed of a server that
it has not shown: a report that contradicts itself, or what is known, is followed by a listing of everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from calsync.calendars.base import Changes, HasEtag, Resource, SyncToken
from calsync.calendars.caldav.client import Dav, Failed
from calsync.core.errors import Refused, Unreachable

PROBE = "calsync-probe-"
"""How the hrefs begin of what is put on the calendar to try the server out; they are never looked at otherwise."""


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
class _Place:
    """Where the collection is (with a slash at the end), and whether it has sync-collection."""

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


class Collection:
    """The collection at `url`, or the one called `name` of the principal there; looked for when it is first needed."""

    def __init__(self, dav: Dav, url: str, name: str) -> None:
        self._dav, self._url, self._name = dav, url, name
        self._found: _Place | None = None
        self._discovering = threading.Lock()
        self._inline = True
        self._ctag: tuple[str, float] = ("", 0.0)

    @property
    def syncs(self) -> bool:
        """Whether it has sync-collection."""
        return self._place.syncs

    def address(self, href: str) -> str:
        """The address of the resource at `href`."""
        return self._place.address(href)

    def changes(self, since: SyncToken | None, known: Mapping[str, HasEtag]) -> Changes:
        """What became of `known` since the token, everything without one; raises `Failed` and calsync's errors."""
        return self._by_sync(since, known) if self.syncs else self._by_etags(since, known)

    def _by_sync(self, since: SyncToken | None, known: Mapping[str, HasEtag]) -> Changes:
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
            answer = self._dav.ask("REPORT", self._place.url, body, {"Depth": "0"})
            found = self._dav.parsed(answer, answer.parse_sync_collection)
            for one in found.changed:
                if name := self._place.name(one.href):
                    changed[name] = Resource(name, bare(one.etag), (one.calendar_data or "").encode())
                    removed.discard(name)
            for href in found.deleted:
                if name := self._place.name(href):
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

    def _by_etags(self, since: SyncToken | None, known: Mapping[str, HasEtag]) -> Changes:
        if since is not None and since.startswith("ctag "):
            answer = self._dav.ask("PROPFIND", self._place.url, _CTAG, {"Depth": "0"})
            found = next(iter(self._dav.parsed(answer, answer.parse_propfind)), None)
            ctag = str(found.properties.get(_GETCTAG)) if found else ""
            if since == f"ctag {ctag}":
                return Changes(since, (), (), complete=False)
        answer = self._dav.ask("PROPFIND", self._place.url, _LISTING, {"Depth": "1"})
        ctag, listed = "", {}
        for found in self._dav.parsed(answer, answer.parse_propfind):
            name = self._place.name(found.href)
            if name is None and found.properties.get(_GETCTAG):
                ctag = str(found.properties[_GETCTAG])
            elif name is not None and found.properties.get(_GETETAG):
                listed[name] = bare(found.properties[_GETETAG])
        return self._compared(since, known, listed, self._token_of(ctag, listed))

    def _token_of(self, ctag: str, listed: Mapping[str, str]) -> str:
        """Return the token of a listing: its ctag if no later change can have the same one, otherwise a digest."""
        if ctag != self._ctag[0]:
            self._ctag = (ctag, time.monotonic())
        settled = bool(ctag) and time.monotonic() - self._ctag[1] > _CTAG_RESOLUTION
        return f"ctag {ctag}" if settled else f"listed {sha256(repr(sorted(listed.items())).encode()).hexdigest()}"

    def _compared(
        self, since: SyncToken | None, known: Mapping[str, HasEtag], listed: Mapping[str, str], token: str
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
        fetched = self.fetch(missing)
        gone = tuple(href for href in missing if href not in fetched)
        filled = (found if found.ics else fetched.get(found.href) for found in changed)
        present = tuple(found for found in filled if found is not None)
        return Changes(token, present, () if complete else (*removed, *gone), complete)

    def fetch(self, hrefs: list[str]) -> dict[str, Resource]:
        """The resources at these hrefs, as they stand; those that do not exist are left out."""
        found: dict[str, Resource] = {}
        for start in range(0, len(hrefs), _BATCH):
            wanted = hrefs[start : start + _BATCH]
            paths = "".join(f"<href>{_escaped(urlsplit(self._place.address(href)).path)}</href>" for href in wanted)
            try:
                answer = self._dav.ask("REPORT", self._place.url, _MULTIGET.format(hrefs=paths), {})
            except Failed as failed:
                if failed.status not in (404, 410):
                    raise self._dav.verdict(failed) from failed
                if len(wanted) > 1:  # some servers have none of them where one is missing
                    for href in wanted:
                        found |= self.fetch([href])
                continue
            for one in self._dav.parsed(answer, answer.parse_calendar_query):
                name = self._place.name(one.href)
                if name is not None and one.calendar_data:
                    found[name] = Resource(name, bare(one.etag), one.calendar_data.encode())
        return found

    @property
    def _place(self) -> _Place:
        with self._discovering:
            if self._found is None:
                self._found = self._discover()
            return self._found

    def _discover(self) -> _Place:
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
        return _Place(url.rstrip("/") + "/", syncs)

    def _discover_by_name(self, url: str) -> _Place:
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


def bare(etag: Any) -> str:
    """An etag without its quotes. A proxy that compresses makes a weak one of it, which the server knows as its own."""
    return str(etag or "").strip().removeprefix("W/").strip('"')


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
