"""Whole HTTP and PostgreSQL messages, read off a connection as they come."""

import socket
from typing import BinaryIO

# What a PostgreSQL connection may say in the place of a protocol version.
SSL, GSS, CANCEL = ((1234 << 16 | code).to_bytes(4) for code in (5679, 5680, 5678))


class Cut(Exception):
    """The connection ends here."""


def http_line(reader: BinaryIO) -> bytes:
    if not (line := reader.readline()):
        raise Cut
    return line


def http_head(reader: BinaryIO) -> tuple[bytes, dict[str, str]]:
    """The first line and the header fields as they came, and the fields by name in lower case."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += http_line(reader)
    pairs = (line.split(":", 1) for line in head.decode("latin-1").split("\r\n")[1:] if line)
    return head, {name.strip().lower(): value.strip() for name, value in pairs}


def http_body(reader: BinaryIO, fields: dict[str, str], *, open_end: bool = False) -> bytes:
    """The body as it came, chunks and all; with an open end it may reach until the connection's."""
    body = b""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        while size := int((line := http_line(reader)).split(b";")[0], 16):
            body += line + reader.read(size + 2)
        body += line
        while not body.endswith(b"\r\n\r\n"):  # trailers, and the empty line
            body += http_line(reader)
    elif "content-length" in fields:
        body = reader.read(int(fields["content-length"]))
        if len(body) < int(fields["content-length"]):
            raise Cut
    elif open_end:
        body = reader.read()
    return body


def http_answer(reader: BinaryIO, method: str) -> tuple[bytes, bool]:
    """A server's whole answer as it came, and whether the connection is good for another one."""
    before = b""
    while True:
        head, fields = http_head(reader)
        status = int(head.split(b" ", 2)[1])
        if status >= 200:
            break
        before += head
    bare = method == "HEAD" or status in (204, 304)
    delimited = bare or "content-length" in fields or "transfer-encoding" in fields
    wish = fields.get("connection", "keep-alive" if head.startswith(b"HTTP/1.1") else "close").lower()
    body = b"" if bare else http_body(reader, fields, open_end=True)
    return before + head + body, delimited and wish != "close"


def exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            raise Cut
        got += more
    return got


def postgres_start(client: socket.socket) -> bytes:
    """What a client begins with, once it was told that there is no encryption."""
    while True:
        size = exactly(client, 4)
        rest = exactly(client, int.from_bytes(size) - 4)
        if rest[:4] not in (SSL, GSS):
            return size + rest
        client.sendall(b"N")


def postgres_message(connection: socket.socket) -> bytes:
    head = exactly(connection, 5)
    return head + exactly(connection, int.from_bytes(head[1:]) - 4)


def postgres_answer(server: socket.socket) -> bytes:
    """All messages up to the one that says that the server is ready for the next query."""
    answer = b""
    while True:
        message = postgres_message(server)
        answer += message
        if message[:1] == b"Z":
            return answer


def statement(messages: bytes) -> str:
    """What a request is called in the log: "Q" or "S", and the SQL in it where it is spelt out."""
    said, rest, kind = [], messages, b""
    while rest:
        kind, size = rest[:1], int.from_bytes(rest[1:5])
        text, rest = rest[5 : size + 1], rest[size + 1 :]
        if kind in b"QP":
            said.append(text.split(b"\0")[kind == b"P"].decode())  # Parse names the statement first
    return " ".join([kind.decode(), *said])
