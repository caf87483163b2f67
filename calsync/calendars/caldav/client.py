"""Requests to a CalDAV server: its answers, and what goes wrong on the way, as calsync's errors.

A request goes out as it was asked for also where it is redirected, which HTTP libraries do not do: they would make a GET of
a redirected PUT. It follows within the host alone, since another one would get the credentials.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import niquests
from caldav.davclient import DAVClient
from caldav.lib import error as dav
from caldav.response import DAVResponse
from lxml.etree import XMLSyntaxError
from pydantic import SecretStr

from calsync import __version__
from calsync.core.errors import CalendarError, Refused, Unreachable

CONNECTIONS = 4
"""How many requests one process has under way at a time."""


_REDIRECTS = 3


class Failed(Exception):
    """A request that was answered with an error status; `said` has the DAV:error conditions, without namespaces."""

    def __init__(self, status: int, said: Iterable[str] = ()) -> None:
        self.status, self.said = status, frozenset(tag.rpartition("}")[2] for tag in said)
        super().__init__(f"HTTP {status}" + (f" ({', '.join(sorted(self.said))})" if self.said else ""))


class Dav:
    """The server at `url`, which messages name; `timeout` is in seconds. Safe to use from several threads."""

    def __init__(self, url: str, username: str | None, password: SecretStr | None, timeout: int) -> None:
        self._url, self._timeout = url, timeout
        self._clients: queue.LifoQueue[DAVClient] = queue.LifoQueue()
        for _ in range(CONNECTIONS):
            client = DAVClient(
                url,
                username=username,
                password=None if password is None else password.get_secret_value(),
                timeout=timeout,
                huge_tree=True,
                headers={"User-Agent": f"calsync/{__version__}"},
                enable_rfc6764=False,
                rate_limit_handle=False,
            )
            client.session.max_redirects = 0  # the HTTP library would make a GET of a redirected PUT
            self._clients.put(client)

    def ask(self, method: str, url: str, body: str | bytes, headers: Mapping[str, str]) -> DAVResponse:
        """The answer to a request; raises `Failed` for an error status."""
        return self.ask_along(method, url, body, headers)[1]

    def ask_along(self, method: str, url: str, body: str | bytes, headers: Mapping[str, str]) -> tuple[str, DAVResponse]:
        """The address that a request ends at, and the answer from there; raises `Failed` for an error status."""
        for _ in range(_REDIRECTS):
            try:
                with self._client() as client, _errors_of(self._url):
                    answer = client.request(url, method, body, headers)  # type: ignore[arg-type]  # it takes bytes as well
            except niquests.TooManyRedirects as redirected:
                url = self._target(url, redirected.response)
                continue
            if answer.status >= 400:
                raise Failed(answer.status, dav.parse_preconditions(answer.raw))
            return url, answer
        raise Refused(f"The calendar at {self._url} redirects in a circle; write its own address as calendar.url.")

    def calendars(self, url: str) -> list[tuple[str, str]]:
        """The name and the address of each calendar that the principal at `url` has."""
        try:
            with self._client() as client, _errors_of(self._url):
                client.url = client.url.join(url)
                return [(str(one.get_display_name()), str(one.url)) for one in client.get_calendars()]
        except niquests.TooManyRedirects as error:
            raise Refused(
                f"The calendars of {self._url} are somewhere else; write the calendar's own address as calendar.url."
            ) from error

    def parsed(self, answer: DAVResponse, parse: Callable[[], Any]) -> Any:
        """What an answer says; a page of HTML, or half of an answer, says nothing."""
        try:
            if answer.status != 207 or answer.tree is None or not str(answer.tree.tag).endswith("}multistatus"):
                raise ValueError(f"status {answer.status}, {answer.headers.get('Content-Type', 'no type')}")
            return parse()
        except Exception as error:  # whatever the library makes of an answer that is none
            raise Unreachable(
                f"What answers at {self._url} is no calendar ({error}); does the address lead to a login page?"
            ) from error

    def verdict(self, failed: Failed) -> Unreachable | Refused:
        """What an error status means for whoever asked: to try again, or that something must be set right."""
        if (failed.status >= 500 and failed.status != 507) or failed.status in (408, 409, 423, 425):
            return Unreachable(f"The calendar at {self._url} is in trouble: {failed}.", retry_after=5)
        why = {
            401: "it does not know the credentials; set CALSYNC_CALENDAR_USERNAME and CALSYNC_CALENDAR_PASSWORD",
            403: "it does not permit this; give the account the right to read and write the calendar",
            404: "there is no calendar at this address; make it on the server, or mend calendar.url",
            413: "the event is too large for it",
            507: "it has no room left",
        }.get(failed.status, "it does not take this")
        return Refused(f"The calendar at {self._url} answered no: {why} ({failed}).")

    def close(self) -> None:
        """Let go of the connections; waits for requests that are under way."""
        clients = [self._clients.get() for _ in range(CONNECTIONS)]
        for client in clients:
            client.close()
            self._clients.put(client)

    def _target(self, url: str, answer: niquests.Response | None) -> str:
        """Where a redirect leads: not to another host, which would get the credentials."""
        target = urljoin(url, str(answer.headers.get("Location", "")) if answer is not None else "")
        before, after = urlsplit(url), urlsplit(target)
        upgraded = (before.scheme, after.scheme) == ("http", "https") and before.hostname == after.hostname
        if not upgraded and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            raise Refused(f"The calendar at {url} redirects to {target}; write its own address as calendar.url.")
        return target

    @contextmanager
    def _client(self) -> Iterator[DAVClient]:
        try:
            client = self._clients.get(timeout=self._timeout)
        except queue.Empty:
            raise Unreachable(f"The calendar at {self._url} is slow, and too many calls wait for it.") from None
        try:
            yield client
        finally:
            self._clients.put(client)


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    """What goes wrong while a request is under way, as calsync's errors; redirects and error statuses pass."""
    try:
        yield
    except (CalendarError, niquests.TooManyRedirects):
        raise
    except dav.RateLimitError as error:
        wait = min(max(round(error.retry_after_seconds or 30), 1), 3600)
        raise Unreachable(f"The calendar at {url} asks to be left alone for {wait} s.", retry_after=wait) from error
    except dav.AuthorizationError as error:
        raise Failed(error.status or 403, error.preconditions) from error
    except dav.DAVError as error:
        raise Failed(error.status or 400, error.preconditions) from error
    except NotImplementedError as error:
        raise Refused(f"The calendar at {url} wants a way to log in that calsync does not know: {error}.") from error
    except (niquests.RequestException, OSError) as error:
        raise Unreachable(f"The calendar at {url} does not answer: {type(error).__name__}.") from error
    except XMLSyntaxError as error:
        raise Unreachable(f"What answers at {url} cannot be understood: {error}.") from error
