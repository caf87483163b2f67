"""A CalDAV server that does the worst things real ones were seen doing, each behind a named switch.

It keeps calendars in memory and speaks as much CalDAV (RFC 4791, RFC 6578) as a client needs. `python -m
support.unruly --port 0` prints the port it took. It is spoken to about itself under `/-/`, without credentials:

    POST /-/switch {"races": false, ...}    set switches (see SWITCHES); answers all of them
    POST /-/next   {"status": 429, "headers": {"Retry-After": "2"}, "count": 3, "body": "", "method": "PUT", "path": "…",
                    "done": false}          the next `count` requests (of this method, with this text in their path) are
                                            answered so; with `done` they are carried out all the same
    POST /-/marker {"text": "…"}            a resource with this text in it is answered 201 and not stored
    POST /-/reset                           all of this as at first; calendars stay
    GET  /-/mails                           the scheduling mails that left, [{"method", "href", "to"}, …]
"""

import argparse
import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from support.unruly_dav import Answer, Request, Store

SWITCHES: dict[str, bool | int] = {
    "overwrites": True,  # If-None-Match: * is not looked at
    "creates_missing": True,  # If-Match where there is nothing: created
    "deletes_anyway": True,  # DELETE does not look at If-Match
    "races": True,  # a pause between a precondition's check and the write, without a lock
    "etags_return": True,  # etags count a resource's writes and start again once it was deleted
    "silent_put": True,  # no ETag on PUT; off: an ETag, although the stored bytes are others
    "rewrites": True,  # properties reordered, defaults added, lines folded differently
    "unescapes_x": True,  # X-A:b\,c becomes X-A:b,c
    "splits_categories": True,  # CATEGORIES:b\,c becomes CATEGORIES:b,c
    "drops_new": True,  # the properties of RFC 9253 and RFC 9073 go
    "escapes_url": True,  # URL and GEO get \; for ;
    "loses_emoji": True,  # an emoji at a fold's edge: 201, and nothing is stored
    "refuses_method": True,  # METHOD in an object: 403
    "same_uid": False,  # on: a second resource of one UID is stored; off: 409
    "knows_any_token": True,  # an unknown sync token: 207 and everything; off: 403 (or 412, below)
    "token_412": False,
    "coarse_ctag": True,  # getctag moves with the second of the last write, not with the write
    "no_sync": False,  # on: neither sync-collection nor sync-token
    "missing_404": True,  # PROPFIND of a missing href: 404; off: 207 with 404 inside
    "multiget_404": True,  # multiget with a missing href: 404 for all; off: 207 with 404 inside
    "replaces_calendar": True,  # PUT on the calendar's own URL replaces what is in it; off: 405
    "refuses_chunked": True,  # a chunked body: 400
    "moved": 0,  # 301, 302, 307 or 308: /calendars/… redirects so to /moved/…, where it always is as well
    "mails": True,  # implicit scheduling (RFC 6638)
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, credentials: str | None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.authorization = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self.store = Store()
        self.reset()

    def reset(self) -> None:
        """As it was at first, but for the calendars."""
        self.switches = dict(SWITCHES)
        self.planned: list[dict[str, Any]] = []
        self.store.mails.clear()
        self.store.marker = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def handle_request(self) -> None:
        answer = self.answered()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD" and answer.status != 204:
            self.wfile.write(answer.body)

    do_OPTIONS = do_PROPFIND = do_REPORT = do_GET = do_HEAD = handle_request  # noqa: N815
    do_PUT = do_DELETE = do_MKCALENDAR = do_POST = handle_request  # noqa: N815

    def log_message(self, *_said: object) -> None:
        """Nothing is logged."""

    def answered(self) -> Answer:
        path, chunked = unquote(urlsplit(self.path).path), "chunked" in self.headers.get("Transfer-Encoding", "")
        body = self.chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path.startswith("/-/"):
            return self.control(path, body)
        if self.server.authorization not in (None, self.headers.get("Authorization")):
            return Answer(401, WWW_Authenticate='Basic realm="unruly"')
        request = Request(self.command, path, self.headers, body, self.server.store, self.server.switches)
        if plan := self.plan(path):
            if plan.get("done"):
                request.answer()
            answer = Answer(plan["status"], plan.get("body", ""))
            answer.headers |= plan.get("headers", {})
            return answer
        if chunked and self.server.switches["refuses_chunked"]:
            return Answer(400, "Send a Content-Length.")
        return request.answer()

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def plan(self, path: str) -> dict[str, Any] | None:
        """What somebody wants this request to be answered with."""
        with self.server.store.lock:
            for plan in self.server.planned:
                if plan.get("method") in (None, self.command) and plan.get("path", "") in path:
                    plan["count"] = plan.get("count", 1) - 1
                    if not plan["count"]:
                        self.server.planned.remove(plan)
                    return plan
        return None

    def control(self, path: str, body: bytes) -> Answer:
        said = json.loads(body or b"{}")
        match path:
            case "/-/switch":
                if unknown := said.keys() - SWITCHES.keys():
                    return Answer(400, f"There is no switch {', '.join(sorted(unknown))}.")
                self.server.switches.update(said)
                return Answer(200, json.dumps(self.server.switches))
            case "/-/next":
                self.server.planned.append(said)
            case "/-/reset":
                self.server.reset()
            case "/-/marker":
                self.server.store.marker = said["text"]
            case "/-/mails":
                return Answer(200, json.dumps(self.server.store.mails))
            case _:
                return Answer(404)
        return Answer(204)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()
    server = Server(options.port, options.user and f"{options.user}:{options.password}")
    print(server.server_address[1], flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
