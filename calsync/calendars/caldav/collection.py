"""A calendar collection on a CalDAV server: where it is, its resources, and its changes (RFC 4791, RFC 6578).

Changes come from the report sync-collection or, on servers without it, from comparing etags. A report that contradicts
itself, or what is known, is not trusted: everything is listed instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from caldav.elements import cdav, dav
from caldav.elements.base import BaseElement

from calsync.calendars.base import Changes, HasEtag, Resource, SyncToken
from calsync.calendars.caldav.client import Dav, Failed
from calsync.core.errors import Refused, Unreachable

PROBE = "calsync-probe-"
"""The prefix of hrefs that are used to try the server out; they are ignored everywhere else."""

_BATCH = 100

_CTAG_RESOLUTION = 2.0  # some servers count in whole seconds


class _CTag(BaseElement):
    tag = "{http://calendarserver.org/ns/}getctag"


def _body(request: BaseElement, *elements: BaseElement) -> str:
    return str(request + elements)


def _prop(*properties: BaseElement) -> BaseElement:
    return dav.Prop() + properties


def _propfind(*properties: BaseElement) -> str:
    return _body(dav.Propfind(), _prop(*properties))


_COLLECTION = _propfind(dav.ResourceType(), dav.DisplayName(), dav.SupportedReportSet(), dav.SyncToken(), _CTag())
_CTAG = _propfind(_CTag())
_LISTING = _propfind(dav.GetEtag(), dav.ResourceType(), _CTag())


@dataclass(frozen=True, slots=True)
class _Location:
    """The URL of the collection (with a slash at the end), and whether it supports sync-collection."""

    url: str
    has_sync: bool

    def address(self, href: str) -> str:
        return self.url + quote(href, safe="")

    def href(self, path: str) -> str | None:
        """Return the href within the collection for a path in a response; None for the collection and for probes."""
        href = path.rstrip("/").rpartition("/")[2]
        own_path = unquote(urlsplit(self.url).path).rstrip("/")
        is_resource = href and not path.endswith("/") and path != own_path and not href.startswith(PROBE)
        return href if is_resource else None


class Collection:
    """The collection at `url`, or the one called `name` of the principal at `url`; it is located by the first call."""

    def __init__(self, client: Dav, url: str, name: str) -> None:
        self._dav, self._url, self._name = client, url, name
        self._located: _Location | None = None
        self._locating = threading.Lock()
        self._sync_sends_data = True
        self._ctag: tuple[str, float] = ("", 0.0)

    @property
    def has_sync(self) -> bool:
        """Return whether the server supports sync-collection."""
        return self._location.has_sync

    def address(self, href: str) -> str:
        """Return the URL of the resource at `href`."""
        return self._location.address(href)

    def changes(self, since: SyncToken | None, known: Mapping[str, HasEtag]) -> Changes:
        """Return the changes of `known` since the token, everything without one; raise `Failed` and calsync's errors."""
        return self._changes_by_sync(since, known) if self.has_sync else self._changes_by_etags(since, known)

    def _changes_by_sync(self, since: SyncToken | None, known: Mapping[str, HasEtag]) -> Changes:
        if since is None:
            return self._compare(since, known, *self._list_by_sync())
        try:
            changed, removed, token = self._sync(since, with_data=self._sync_sends_data)
        except Failed as failed:
            if failed.status >= 500:
                raise
            # The server forgot the token (RFC 6578, section 3.8), or it refuses calendar-data in this report.
            if "valid-sync-token" not in failed.conditions:
                self._sync_sends_data = False
            return self._compare(since, known, *self._list_by_sync())
        only_token_moved = token != since and not (changed or removed)
        if only_token_moved or any(known[new.href].etag == new.etag for new in changed if new.href in known):
            # Some servers report everything for a token that they forgot, and nothing tells what was removed. On some,
            # an etag returns when a resource is created again, so whatever the report names counts as changed.
            reported = {resource.href for resource in changed}
            others = {href: resource for href, resource in known.items() if href not in reported}
            changes = self._compare(since, others, *self._list_by_sync())
            gone = (reported & known.keys()) - {resource.href for resource in changes.changed}
            return replace(changes, removed=(*changes.removed, *sorted(gone)))
        return self._fill(token, changed, removed)

    def _sync(self, token: str, *, with_data: bool) -> tuple[tuple[Resource, ...], tuple[str, ...], str]:
        """Return the changed resources, removed hrefs and token of as many reports as it takes; bytes may be empty."""
        changed: dict[str, Resource] = {}
        removed: set[str] = set()
        prop = _prop(dav.GetEtag(), cdav.CalendarData()) if with_data else _prop(dav.GetEtag())
        while True:
            body = _body(dav.SyncCollection(), dav.SyncToken(value=token), dav.SyncLevel(value="1"), prop)
            response = self._dav.request("REPORT", self._location.url, body, {"Depth": "0"})
            report = self._dav.parsed(response, response.parse_sync_collection)
            for member in report.changed:
                if href := self._location.href(member.href):
                    changed[href] = Resource(href, bare(member.etag), (member.calendar_data or "").encode())
                    removed.discard(href)
            for path in report.deleted:
                if href := self._location.href(path):
                    removed.add(href)
                    changed.pop(href, None)
            if not report.sync_token or (report.truncated and report.sync_token == token):
                raise Unreachable(f"The calendar at {self._url} reports changes without a usable sync token.")
            token = report.sync_token
            if not report.truncated:
                return tuple(changed.values()), tuple(sorted(removed)), token

    def _list_by_sync(self) -> tuple[dict[str, str], str]:
        """Return the etag of every resource, and the sync token."""
        resources, _, token = self._sync("", with_data=False)
        return {resource.href: resource.etag for resource in resources}, token

    def _changes_by_etags(self, since: SyncToken | None, known: Mapping[str, HasEtag]) -> Changes:
        if since is not None and since.startswith("ctag "):
            response = self._dav.request("PROPFIND", self._location.url, _CTAG, {"Depth": "0"})
            collection = next(iter(self._dav.parsed(response, response.parse_propfind)), None)
            if collection and since == f"ctag {collection.properties.get(_CTag.tag)}":
                return Changes(since, (), (), complete=False)
        response = self._dav.request("PROPFIND", self._location.url, _LISTING, {"Depth": "1"})
        ctag, listed = "", {}
        for member in self._dav.parsed(response, response.parse_propfind):
            href = self._location.href(member.href)
            if href is None and member.properties.get(_CTag.tag):
                ctag = str(member.properties[_CTag.tag])
            elif href is not None and member.properties.get(dav.GetEtag.tag):
                listed[href] = bare(member.properties[dav.GetEtag.tag])
        return self._compare(since, known, listed, self._token(ctag, listed))

    def _token(self, ctag: str, listed: Mapping[str, str]) -> str:
        """Return the token of a listing: its ctag if no later change can have the same one, otherwise a digest."""
        if ctag != self._ctag[0]:
            self._ctag = (ctag, time.monotonic())
        is_settled = bool(ctag) and time.monotonic() - self._ctag[1] > _CTAG_RESOLUTION
        return f"ctag {ctag}" if is_settled else f"listed {sha256(repr(sorted(listed.items())).encode()).hexdigest()}"

    def _compare(
        self, since: SyncToken | None, known: Mapping[str, HasEtag], listed: Mapping[str, str], token: str
    ) -> Changes:
        """Return the changes that turn `known` into what is listed."""
        changed = tuple(
            Resource(href, etag, b"") for href, etag in listed.items() if href not in known or known[href].etag != etag
        )
        removed = tuple(href for href in known if href not in listed)
        return self._fill(token, changed, removed, complete=since is None)

    def _fill(
        self, token: str, changed: tuple[Resource, ...], removed: tuple[str, ...], *, complete: bool = False
    ) -> Changes:
        """Return the changes with the bytes that are missing; a resource that has gone meanwhile counts as removed."""
        missing = [resource.href for resource in changed if not resource.ics]
        fetched = self.fetch(missing)
        gone = tuple(href for href in missing if href not in fetched)
        filled = (resource if resource.ics else fetched.get(resource.href) for resource in changed)
        present = tuple(resource for resource in filled if resource is not None)
        return Changes(token, present, () if complete else (*removed, *gone), complete)

    def fetch(self, hrefs: list[str]) -> dict[str, Resource]:
        """Return the current resources at these hrefs, without those that do not exist."""
        resources: dict[str, Resource] = {}
        for start in range(0, len(hrefs), _BATCH):
            batch = hrefs[start : start + _BATCH]
            paths = [dav.Href(value=urlsplit(self._location.address(href)).path) for href in batch]
            body = _body(cdav.CalendarMultiGet(), _prop(dav.GetEtag(), cdav.CalendarData()), *paths)
            try:
                response = self._dav.request("REPORT", self._location.url, body, {})
            except Failed as failed:
                if failed.status not in (404, 410):
                    raise self._dav.error_of(failed) from failed
                if len(batch) > 1:  # some servers return nothing if one of them is missing
                    for single in batch:
                        resources |= self.fetch([single])
                continue
            for member in self._dav.parsed(response, response.parse_calendar_query):
                href = self._location.href(member.href)
                if href is not None and member.calendar_data:
                    resources[href] = Resource(href, bare(member.etag), member.calendar_data.encode())
        return resources

    @property
    def _location(self) -> _Location:
        with self._locating:
            if self._located is None:
                self._located = self._locate()
            return self._located

    def _locate(self) -> _Location:
        try:
            url, response = self._dav.request_and_locate("PROPFIND", self._url, _COLLECTION, {"Depth": "0"})
            collection = next(iter(self._dav.parsed(response, response.parse_propfind)), None)
            if collection is None or dav.ResourceType.tag not in collection.properties:
                raise Failed(404)  # which some servers report only inside a 207
            properties: Mapping[str, Any] = collection.properties
            if cdav.Calendar.tag not in (properties[dav.ResourceType.tag] or []):
                return self._locate_by_name(url)
        except Failed as failed:
            if failed.status == 404 and not self._url.endswith("/"):
                self._url += "/"
                return self._locate()
            raise self._dav.error_of(failed) from failed
        reports = properties.get(dav.SupportedReportSet.tag) or []
        has_sync = dav.SyncCollection.tag in reports and bool(properties.get(dav.SyncToken.tag))
        return _Location(url.rstrip("/") + "/", has_sync)

    def _locate_by_name(self, url: str) -> _Location:
        """Locate the principal's calendar that has the configured name."""
        calendars = self._dav.calendars(url)
        addresses = [address for name, address in calendars if name == self._name]
        if len(addresses) != 1:
            count = "several calendars" if addresses else "no calendar"
            names = ", ".join(sorted(f'"{name}"' for name, _ in calendars)) or "none"
            raise Refused(
                f'{url} has {count} called "{self._name}". Its calendars are: {names}. Create one on the server, set '
                "calendar.name, or set calendar.url to the calendar's own URL."
            )
        self._url = addresses[0]
        return self._locate()


def bare(etag: Any) -> str:
    """Return an etag without quotes. A compressing proxy makes it weak, which the server still accepts as its own."""
    return str(etag or "").strip().removeprefix("W/").strip('"')
