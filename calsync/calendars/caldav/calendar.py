"""The calendar on a CalDAV server: writes that stand, or did not happen (RFC 4791).

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
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from pydantic import SecretStr

from calsync.calendars.base import NO_RESOURCES, Capability, Changes, HasEtag, Resource, SyncToken
from calsync.calendars.cache import CalendarCache
from calsync.calendars.caldav.client import Dav, Failed
from calsync.calendars.caldav.collection import PROBE, Collection, bare
from calsync.calendars.caldav.probe import Answer, Findings, probe
from calsync.core.errors import Changed, Refused
from calsync.core.properties import MARK

SETTLING = 2.0
"""How long, in seconds, to wait before a write counts on a server that does not keep preconditions."""


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
        """See `Calendar.changes`; a server tells of everything."""
        if since is None:
            known = NO_RESOURCES
        try:
            return self._collection.changes(since, known)
        except Failed as failed:
            raise self._dav.verdict(failed) from failed

    def mark_ended(self, ended: Mapping[str, datetime]) -> None:
        """See `Calendar.mark_ended`; on a server there is no place to note it."""

    # Writing

    def put(self, href: str, ics: bytes, *, etag: str | None) -> Resource:
        """See `Calendar.put`; the etag is empty where the server does not tell it."""
        ignores_preconditions = self._server_ignores_preconditions()
        if ignores_preconditions:
            self._expect(href, etag)
        try:
            told = self._put(href, ics, etag)
        except Failed as failed:
            told = self._outcome(href, ics, etag, failed)
        if ignores_preconditions:
            self._pause(SETTLING)
            standing = self._collection.fetch([href]).get(href)
            if standing is not None and standing.etag != etag and marks(standing.ics) != marks(ics):
                raise Changed(f"{href} was overwritten.")
        return Resource(href, told, ics)

    def _put(self, href: str, ics: bytes, etag: str | None) -> str:
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        headers = {"Content-Type": "text/calendar; charset=utf-8", **condition}
        answer = self._dav.ask("PUT", self._collection.address(href), ics, headers)
        return bare(answer.headers.get("ETag"))

    def delete(self, href: str, *, etag: str) -> None:
        """See `Calendar.delete`."""
        if self._server_ignores_preconditions():
            self._expect(href, etag)
        # No cancellation is sent to attendees, whom only people can have put there (RFC 6638, section 8.1).
        headers = {"If-Match": f'"{etag}"', "Schedule-Reply": "F"}
        try:
            self._dav.ask("DELETE", self._collection.address(href), "", headers)
        except Failed as failed:
            if failed.status in (404, 410, 412):
                raise Changed(f"{href} was changed or is gone.") from None
            standing = self._collection.fetch([href]).get(href)
            if standing is None:
                return
            if standing.etag != etag:
                raise Changed(f"{href} was changed.") from None
            raise self._dav.verdict(failed) from failed

    def _expect(self, href: str, etag: str | None) -> None:
        standing = self._collection.fetch([href]).get(href)
        if (None if standing is None else standing.etag) != etag:
            raise Changed(f"{href} exists already." if etag is None else f"{href} was changed or is gone.")

    def _outcome(self, href: str, ics: bytes, etag: str | None, failed: Failed) -> str:
        """The etag of a write that stands although it was answered with an error; raises what the error means if not."""
        standing = None if failed.status == 401 else self._collection.fetch([href]).get(href)
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

    def _server_ignores_preconditions(self) -> bool:
        with self._probing:
            if self._ignores_preconditions is None and self._notes is not None:
                self._ignores_preconditions = {"yes": True, "no": False}.get(
                    self._notes.note("ignores-preconditions") or ""
                )
            if self._ignores_preconditions is None:
                self._try_out()
            assert self._ignores_preconditions is not None  # what trying out tells
            return self._ignores_preconditions

    # Probing

    def probe(self) -> tuple[Capability, ...]:
        """See `Calendar.probe`; other clients of the server may see the events come and go."""
        with self._probing:
            found = self._try_out()
        syncs = Capability(
            self._collection.syncs,
            "It tells what changed (sync-collection)"
            if self._collection.syncs
            else "It does not tell what changed; calsync compares ctag and etags",
        )
        kind = Capability(
            not self._ignores_preconditions,
            "So one conditional write is enough"
            if not self._ignores_preconditions
            else f"So calsync reads before each write, and once more {SETTLING:.0f} s after it; two writers that are "
            "slower than that can still overwrite each other",
        )
        return (*found.preconditions, kind, *found.content, syncs)

    def _try_out(self) -> Findings:
        try:
            found = probe(PROBE, self._send)
        except Failed as failed:
            raise self._dav.verdict(failed) from failed
        self._ignores_preconditions = not all(capability.holds for capability in found.preconditions)
        if self._notes is not None:
            self._notes.set_note("ignores-preconditions", "yes" if self._ignores_preconditions else "no")
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

    def close(self) -> None:
        """See `Calendar.close`; waits for requests that are under way."""
        self._dav.close()


def marks(ics: bytes) -> frozenset[bytes]:
    """The marks of the write that a resource is of, whether its lines end in CRLF or, as XML makes of them, in LF."""
    unfolded = re.sub(rb"\r?\n[ \t]", b"", ics)
    return frozenset(re.findall(rb"^" + MARK.encode() + rb"[:;][^\r\n]*", unfolded, re.MULTILINE))
