"""A proxy in the test's process that stands between calsync and a calendar server, and fails where it is told to.

A fault is planned for the n-th request from now on, and is over with it unless it is `lasting`:

    refuse   the connection is cut, nothing is forwarded, and new connections are refused until `heal()`
    before   the connection is cut, nothing is forwarded
    during   the request is forwarded, and the connection is cut in the middle of the answer
    after    the request is forwarded, its whole answer swallowed, and the connection cut
    delay    the answer arrives `seconds` later, or when healed
    None     none, for `then` alone: it is called before the request is forwarded

`then()` is called at that point, before the connection is cut or the answer goes on: it may kill a process.

With HTTP each request counts. With PostgreSQL each message that the server answers counts: a simple query, and the Sync
that ends an extended one. A connection's start moves no count: a fault planned for request 0 meets the next one, and its
answer is the server's first message. Encryption is declined in the server's name, so that messages can be told apart.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

from support.wire import (
    CANCEL,
    Cut,
    http_answer,
    http_body,
    http_head,
    postgres_answer,
    postgres_message,
    postgres_start,
    statement,
)

Fault = Literal["refuse", "before", "during", "after", "delay"]


@dataclass(slots=True, eq=False)
class Plan:
    n: int
    fault: Fault | None
    seconds: float
    then: Callable[[], object] | None
    lasting: bool


class Proxy:
    """A proxy to a server, on `port` of 127.0.0.1, between `with` and its end; `requests` are those that arrived."""

    def __init__(self, host: str, port: int, protocol: Literal["http", "postgres"] = "http") -> None:
        self.requests: list[str] = []
        self.messages: list[bytes] = []  # what HTTP requests were in full
        self._target = host, port
        self._speak = {"http": self._http, "postgres": self._postgres}[protocol]
        self._lock = threading.Lock()
        self._plans: list[Plan] = []
        self._open: set[socket.socket] = set()
        self._healed = threading.Event()
        self._listener: socket.socket | None = None
        # A bound socket that does not listen keeps the port ours while connections to it are refused.
        self._place = reusable(0)
        self.port: int = self._place.getsockname()[1]

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._healed.set()
        self.down()
        self._place.close()

    def plan(
        self,
        n: int,
        fault: Fault | None,
        seconds: float = 0,
        then: Callable[[], object] | None = None,
        *,
        lasting: bool = False,
    ) -> None:
        """Plan a fault for the n-th request from now on (1: the next one); `lasting`: and for all after it."""
        with self._lock:
            self._healed.clear()
            self._plans.append(Plan(n, fault, seconds, then, lasting))

    def heal(self) -> None:
        """Forget all plans, let delayed answers go, and take connections again."""
        with self._lock:
            self._plans.clear()
        self._healed.set()
        self.up()

    def down(self) -> None:
        """Cut all connections and refuse new ones, until `up()`."""
        with self._lock:
            listener, self._listener = self._listener, None
            for one in self._open | ({listener} if listener else set()):
                hang_up(one)  # wakes the thread that waits in it, and that closes it

    def up(self) -> None:
        """Take connections (again)."""
        with self._lock:
            if self._listener is None:
                self._listener = reusable(self.port)
                self._listener.listen(256)
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def through(self, url: str) -> str:
        """A URL of the server, as it is through the proxy."""
        host, port = self._target
        return url.replace(f"{host}:{port}", f"127.0.0.1:{self.port}", 1)

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):  # `down()` ends it
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client, listener), daemon=True).start()

    def _serve(self, client: socket.socket, listener: socket.socket) -> None:
        with contextlib.suppress(Cut, OSError), self._opened(client):
            if listener is self._listener:  # otherwise it came in while the proxy went down
                self._speak(client)

    @contextlib.contextmanager
    def _opened(self, connection: socket.socket) -> Iterator[socket.socket]:
        """A connection that `down()` cuts, and that is closed at the end."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._open.discard(connection)
                hang_up(connection)
                connection.close()

    def _server(self) -> contextlib.AbstractContextManager[socket.socket]:
        return self._opened(socket.create_connection(self._target))

    def _arrived(self, request: str, *, counts: bool = True) -> Plan | None:
        """The plan for the request that arrived, if there is one; it does not return if the plan ends it here."""
        with self._lock:
            self.requests.append(request)
            due = [plan for plan in self._plans if plan.n == int(counts) or (plan.lasting and plan.n == 0)]
            self._plans = [plan for plan in self._plans if plan.lasting or plan not in due]
            for plan in self._plans if counts else ():
                plan.n = max(plan.n - 1, 0)
        if not due:
            return None
        if due[0].fault in ("refuse", "before", None) and due[0].then:
            due[0].then()
        if due[0].fault == "refuse":
            self.down()
        if due[0].fault in ("refuse", "before"):
            raise Cut
        return due[0]

    def _deliver(self, answer: bytes, client: socket.socket, plan: Plan | None) -> None:
        fault = plan and plan.fault
        if fault == "during":
            client.sendall(answer[: len(answer) // 2])
        if plan and fault and plan.then:
            plan.then()
        if fault in ("during", "after"):
            raise Cut
        if plan and fault == "delay":
            self._healed.wait(plan.seconds)
        client.sendall(answer)

    def _http(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        goes_on = True
        while goes_on:
            head, fields = http_head(reader)
            method, path, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ", 2)
            request = head + http_body(reader, fields)
            self.messages.append(request)
            plan = self._arrived(f"{method} {path}")
            with self._server() as server:
                server.sendall(request)
                answer, goes_on = http_answer(server.makefile("rb"), method)
            self._deliver(answer, client, plan)

    def _postgres(self, client: socket.socket) -> None:
        start = postgres_start(client)
        if start[4:8] == CANCEL:
            with self._server() as server:
                server.sendall(start)
                return
        plan = self._arrived("startup", counts=False)
        with self._server() as server:
            server.sendall(start)
            self._deliver(postgres_message(server), client, plan)
            unsent = b""
            while True:
                readable, _, _ = select.select([client, server], [], [])
                if server in readable:  # the rest of the start, or a notification
                    client.sendall(postgres_message(server))
                    continue
                message = postgres_message(client)
                unsent += message
                if message[:1] in b"QS":
                    plan = self._arrived(statement(unsent))
                    server.sendall(unsent)
                    self._deliver(postgres_answer(server), client, plan)
                elif message[:1] in b"PBDEC":  # parts of an extended query: they go with their Sync
                    continue
                else:
                    server.sendall(unsent)
                unsent = b""


def reusable(port: int) -> socket.socket:
    """A socket bound to the port; another such one may be, of which one may listen."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", port))
    return one


def hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was first
        connection.shutdown(socket.SHUT_RDWR)
