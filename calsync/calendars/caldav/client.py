"""Requests to a CalDAV server, with its redirects and errors.

A redirected request keeps its method and body; HTTP libraries would turn a redirected PUT into a GET. Redirects are
followed on the same host only, because another host would receive the credentials.
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
"""How many requests one process sends at a time."""

_MAX_REDIRECTS = 3


class Failed(Exception):
    """The response to a request has an error status; `conditions` are its DAV:error elements, without namespaces."""

    def __init__(self, status: int, conditions: Iterable[str] = ()) -> None:
        self.status = status
        self.conditions = frozenset(tag.rpartition("}")[2] for tag in conditions)
        super().__init__(f"HTTP {status}" + (f" ({', '.join(sorted(self.conditions))})" if self.conditions else ""))


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
            client.session.max_redirects = 0  # `request` follows them itself
            self._clients.put(client)

    def request(self, method: str, url: str, body: str | bytes, headers: Mapping[str, str]) -> DAVResponse:
        """Return the response; raise `Failed` for an error status."""
        return self.request_and_locate(method, url, body, headers)[1]

    def request_and_locate(
        self, method: str, url: str, body: str | bytes, headers: Mapping[str, str]
    ) -> tuple[str, DAVResponse]:
        """Return the URL at which the redirects end, and the response from there; raise `Failed` for an error status."""
        for _ in range(_MAX_REDIRECTS):
            try:
                with self._client() as client, _calsync_errors(self._url):
                    response = client.request(url, method, body, headers)  # type: ignore[arg-type]  # it accepts bytes, too
            except niquests.TooManyRedirects as redirected:
                url = self._target(url, redirected.response)
                continue
            if response.status >= 400:
                raise Failed(response.status, dav.parse_preconditions(response.raw))
            return url, response
        raise Refused(f"The calendar at {self._url} redirects in a circle. Set calendar.url to the calendar's own URL.")

    def calendars(self, url: str) -> list[tuple[str, str]]:
        """Return the name and the URL of each calendar of the principal at `url`."""
        try:
            with self._client() as client, _calsync_errors(self._url):
                client.url = client.url.join(url)
                return [(str(calendar.get_display_name()), str(calendar.url)) for calendar in client.get_calendars()]
        except niquests.TooManyRedirects as error:
            raise Refused(
                f"The principal at {self._url} redirects to its calendars. Set calendar.url to the calendar's own URL."
            ) from error

    def parsed(self, response: DAVResponse, parse: Callable[[], Any]) -> Any:
        """Return what `parse` makes of the response; raise `Unreachable` if it is cut off or not from a DAV server."""
        try:
            if response.status != 207 or response.tree is None or not str(response.tree.tag).endswith("}multistatus"):
                raise ValueError(f"status {response.status}, {response.headers.get('Content-Type', 'no type')}")
            return parse()
        except Exception as error:  # whatever the library raises for a malformed response
            raise Unreachable(
                f"The response from {self._url} is not from a calendar ({error}). "
                "Check that calendar.url does not lead to a login page."
            ) from error

    def error_of(self, failed: Failed) -> Unreachable | Refused:
        """Return calsync's error for an error status: `Unreachable` if a retry may succeed."""
        if (failed.status >= 500 and failed.status != 507) or failed.status in (408, 409, 423, 425):
            return Unreachable(f"The calendar at {self._url} failed for now: {failed}.", retry_after=5)
        reason = {
            401: "it rejects the credentials. Set CALSYNC_CALENDAR_USERNAME and CALSYNC_CALENDAR_PASSWORD",
            403: "the account lacks a permission. Give it the right to read and write the calendar",
            404: "there is no calendar at this URL. Create it on the server, or correct calendar.url",
            413: "the event is too large",
            507: "the server has no space left",
        }.get(failed.status, "it does not accept this")
        return Refused(f"The calendar at {self._url} refuses the request ({failed}): {reason}.")

    def close(self) -> None:
        """Close the connections after the requests that are still running."""
        clients = [self._clients.get() for _ in range(CONNECTIONS)]
        for client in clients:
            client.close()
            self._clients.put(client)

    def _target(self, url: str, response: niquests.Response | None) -> str:
        """Return the target of a redirect; raise `Refused` if it is on another host."""
        target = urljoin(url, str(response.headers.get("Location", "")) if response is not None else "")
        before, after = urlsplit(url), urlsplit(target)
        is_upgrade = (before.scheme, after.scheme) == ("http", "https") and before.hostname == after.hostname
        if not is_upgrade and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            raise Refused(
                f"The calendar at {url} redirects to another host, {target}. Set calendar.url to the calendar's own URL."
            )
        return target

    @contextmanager
    def _client(self) -> Iterator[DAVClient]:
        try:
            client = self._clients.get(timeout=self._timeout)
        except queue.Empty:
            raise Unreachable(f"The calendar at {self._url} is slow, and every connection to it is in use.") from None
        try:
            yield client
        finally:
            self._clients.put(client)


@contextmanager
def _calsync_errors(url: str) -> Iterator[None]:
    """Translate the errors of a request into calsync's; let redirects and error statuses pass."""
    try:
        yield
    except (CalendarError, niquests.TooManyRedirects):
        raise
    except dav.RateLimitError as error:
        wait = min(max(round(error.retry_after_seconds or 30), 1), 3600)
        raise Unreachable(
            f"The calendar at {url} is rate limiting calsync; retry in {wait} s.", retry_after=wait
        ) from error
    except dav.AuthorizationError as error:
        raise Failed(error.status or 403, error.preconditions) from error
    except dav.DAVError as error:
        raise Failed(error.status or 400, error.preconditions) from error
    except NotImplementedError as error:
        raise Refused(f"The calendar at {url} wants a login method that calsync does not support: {error}.") from error
    except (niquests.RequestException, OSError) as error:
        raise Unreachable(f"The calendar at {url} does not answer: {type(error).__name__}.") from error
    except XMLSyntaxError as error:
        raise Unreachable(f"The response from {url} is not valid XML: {error}.") from error
