"""The calendar on a CalDAV server: each write is either stored or not, whatever the server answers (RFC 4791).

A server's answer to a write is never trusted. A success says that something was stored, not what; an error other than a
plain 412 does not say that nothing was stored. So after either, calsync reads, and recognises its own write by its mark, a
plain token that no server rewrites. `probe` finds servers that ignore preconditions. On those, every write is preceded by a
read and followed by another one after a settling time, by which the last of several concurrent writers has won.

The meaning of a 403, 409 or 412 is in the DAV:error element of the response (RFC 4918, section 16), because servers use the
same status for a lost race, for a UID that exists at another href, and for iCalendar that they do not accept.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from pydantic import SecretStr

from calsync.calendars.base import NO_RESOURCES, Capability, Changes, HasEtag, Resource, SyncToken
from calsync.calendars.cache import CalendarCache
from calsync.calendars.caldav.client import Dav, Failed
from calsync.calendars.caldav.collection import PROBE, Collection, bare
from calsync.calendars.caldav.probe import Findings, Response, probe
from calsync.core.errors import Changed, Refused
from calsync.core.properties import MARK

SETTLING = 2.0
"""How long, in seconds, to wait before a write counts on a server that ignores preconditions."""


class CalDavCalendar:
    """A `Calendar` on a CalDAV server.

    `url` is the URL of the calendar collection, or of a principal, whose calendar called `name` is then used. `timeout` is
    in seconds. `pause` waits for some seconds, on servers that ignore preconditions. `notes` keeps for the next process
    whether the server is one of those.
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
        notes: CalendarCache | None = None,
    ) -> None:
        self._pause, self._notes = pause, notes
        self._dav = Dav(url, username, password, timeout)
        self._collection = Collection(self._dav, url, name)
        self._probing = threading.Lock()
        self._ignores_preconditions: bool | None = None

    def changes(
        self,
        since: SyncToken | None,
        known: Mapping[str, HasEtag] = NO_RESOURCES,
        ended_before: datetime | None = None,  # noqa: ARG002
        always_include: Sequence[str] = (),  # noqa: ARG002
    ) -> Changes:
        """Implement `Calendar.changes`; ended resources are always included."""
        try:
            return self._collection.changes(since, NO_RESOURCES if since is None else known)
        except Failed as failed:
            raise self._dav.error_of(failed) from failed

    def mark_ended(self, ended: Mapping[str, datetime]) -> None:
        """Do nothing: a server has no place to record it."""

    # Writing

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """Implement `Calendar.put`; the new etag is empty if the server does not send it."""
        ignores_preconditions = self._server_ignores_preconditions()
        if ignores_preconditions:
            self._require(href, etag)
        try:
            new_etag = self._put(href, ics, etag)
        except Failed as failed:
            new_etag = self._etag_after_failure(href, ics, etag, failed)
        if ignores_preconditions:
            self._pause(SETTLING)
            current = self._current(href)
            if current is not None and current.etag != etag and marks(current.ics) != marks(ics):
                raise Changed(f"{href} was overwritten.")
        return Resource(href, new_etag, ics)

    def _put(self, href: str, ics: bytes, etag: str | None) -> str:
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        headers = {"Content-Type": "text/calendar; charset=utf-8", **condition}
        response = self._dav.request("PUT", self._collection.address(href), ics, headers)
        return bare(response.headers.get("ETag"))

    def delete(self, href: str, *, etag: str) -> None:
        """Implement `Calendar.delete`."""
        if self._server_ignores_preconditions():
            self._require(href, etag)
        # No cancellation is sent to attendees, because only people can have added them (RFC 6638, section 8.1).
        headers = {"If-Match": f'"{etag}"', "Schedule-Reply": "F"}
        try:
            self._dav.request("DELETE", self._collection.address(href), "", headers)
        except Failed as failed:
            if failed.status in (404, 410, 412):
                raise _changed(href, etag) from None
            current = self._current(href)
            if current is not None and current.etag != etag:
                raise _changed(href, etag) from None
            if current is not None:
                raise self._dav.error_of(failed) from failed

    def _current(self, href: str) -> Resource | None:
        return self._collection.fetch([href]).get(href)

    def _require(self, href: str, etag: str | None) -> None:
        """Raise `Changed` unless the resource has this etag (None: unless there is none)."""
        current = self._current(href)
        if (None if current is None else current.etag) != etag:
            raise _changed(href, etag)

    def _etag_after_failure(self, href: str, ics: bytes, etag: str | None, failed: Failed) -> str:
        """Return the new etag if the write was stored in spite of the error status; otherwise raise what it means."""
        if failed.status == 401:
            raise self._dav.error_of(failed)
        current = self._current(href)
        if current is not None and marks(current.ics) == marks(ics) != frozenset():
            return current.etag
        if (None if current is None else current.etag) != etag or (failed.status == 412 and not failed.conditions):
            raise _changed(href, etag)
        if "no-uid-conflict" in failed.conditions:
            raise Refused(
                f"The UID of {href} exists on the calendar under another name, as when a client copies an event. "
                "Remove the copy."
            )
        if failed.status == 412 and failed.conditions <= {"precondition-failed", "if-match", "if-none-match"}:
            raise _changed(href, etag)
        raise self._dav.error_of(failed)

    # Probing

    def probe(self) -> tuple[Capability, ...]:
        """Implement `Calendar.probe`; other clients of the server may see the events come and go."""
        with self._probing:
            findings = self._try_out()
        has_sync, needs_reads = self._collection.has_sync, self._ignores_preconditions
        writes = Capability(
            not needs_reads,
            f"calsync reads before each write and again {SETTLING:.0f} s after it; slower writers can still overwrite "
            "each other"
            if needs_reads
            else "One conditional write is enough",
        )
        sync = Capability(
            has_sync,
            "Reports what changed (sync-collection)"
            if has_sync
            else "Does not report what changed; calsync compares ctag and etags",
        )
        return (*findings.preconditions, writes, *findings.content, sync)

    def _server_ignores_preconditions(self) -> bool:
        with self._probing:
            if self._ignores_preconditions is None and self._notes is not None:
                note = self._notes.note("ignores-preconditions") or ""
                self._ignores_preconditions = {"yes": True, "no": False}.get(note)
            if self._ignores_preconditions is None:
                self._try_out()
            assert self._ignores_preconditions is not None  # `_try_out` sets it
            return self._ignores_preconditions

    def _try_out(self) -> Findings:
        try:
            findings = probe(PROBE, self._send)
        except Failed as failed:
            raise self._dav.error_of(failed) from failed
        self._ignores_preconditions = not all(capability.holds for capability in findings.preconditions)
        if self._notes is not None:
            self._notes.set_note("ignores-preconditions", "yes" if self._ignores_preconditions else "no")
        return findings

    def _send(self, method: str, href: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Return the response, whatever its status; raise `Failed` if the server rejects the account or every write."""
        content_type = {"Content-Type": "text/calendar; charset=utf-8"} if body else {}
        try:
            response = self._dav.request(method, self._collection.address(href), body, {**content_type, **headers})
        except Failed as failed:
            if failed.status == 401 or (
                method == "PUT" and failed.status in (403, 404, 405, 507) and not failed.conditions
            ):
                raise
            return Response(failed.status, "", b"")
        return Response(response.status, str(response.headers.get("ETag", "")), response.raw.encode())

    def close(self) -> None:
        """Implement `Calendar.close`; wait for requests that are still running."""
        self._dav.close()


def _changed(href: str, etag: str | None) -> Changed:
    return Changed(f"{href} exists already." if etag is None else f"{href} was changed or is gone.")


def marks(ics: bytes) -> frozenset[bytes]:
    """Return the marks of the write that stored a resource. Lines may end in CRLF or, after XML, in LF."""
    unfolded = re.sub(rb"\r?\n[ \t]", b"", ics)
    return frozenset(re.findall(rb"^" + MARK.encode() + rb"[:;][^\r\n]*", unfolded, re.MULTILINE))
