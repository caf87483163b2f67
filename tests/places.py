"""A new calendar on any engine: where it is, and the configuration that leads to it."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import servers
from actions import configuration

REMOTE = ["postgresql", "radicale", "xandikos", "unruly"]


@dataclass(frozen=True, slots=True)
class Place:
    """A new calendar; `protocol` is what a proxy before its server speaks."""

    url: str
    username: str | None
    password: str | None
    port: int | None = None
    protocol: Literal["http", "postgres"] = "http"

    def config(self, through: Callable[[str], str] = lambda url: url):
        """The configuration; `through` makes of the address what it is through a proxy."""
        return configuration(through(self.url), self.username, self.password)


class Places:
    """New calendars on real servers, each of which is started when it is first asked for."""

    def __init__(self, new_folder):
        self._new_folder, self._running = new_folder, {}
        self._stack = contextlib.ExitStack()

    def new(self, engine):
        """A new and empty calendar."""
        if engine == "sqlite":
            return Place(f"sqlite:///{self._new_folder('sqlite')}/deployments.db", None, None)
        if engine not in self._running:
            start = servers.postgres() if engine == "postgresql" else getattr(servers, engine)(self._new_folder(engine))
            self._running[engine] = self._stack.enter_context(start)
        server = self._running[engine]
        if engine == "postgresql":
            url = server.new_database().replace(f"{servers.USERNAME}:{servers.PASSWORD}@", "")
            return Place(url, servers.USERNAME, servers.PASSWORD, server.port, "postgres")
        return Place(server.new_calendar(), server.username, server.password, server.port)

    def close(self):
        """Stop the servers."""
        self._stack.close()
