"""Somebody's own calendar as a feed over real HTTP, for busy times."""

import contextlib
import http.server
import threading
import time

from support.samples import ics

# Busy feeds


MEETING = ("SUMMARY:Board meeting", "DTSTART:20261201T093000Z", "DTEND:20261201T100000Z")


class FeedServer:
    """A feed over real HTTP, with an ETag; `answer` can be changed."""

    def __init__(self):
        self.body, self.status, self.etag, self.seen, self.drips = ics(), 200, '"1"', [], False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.seen.append(self.headers.get("If-None-Match"))
                status = 304 if outer.status == 200 and self.headers.get("If-None-Match") == outer.etag else outer.status
                self.send_response(status)
                self.send_header("ETag", outer.etag)
                if status != 304:
                    self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                if status != 304:
                    with contextlib.suppress(OSError):  # who hangs up has heard enough
                        self._say(outer.body)

            def _say(self, body):
                for n in range(len(body)) if outer.drips else ():
                    self.wfile.write(body[n : n + 1])
                    time.sleep(0.02)
                self.wfile.write(body if not outer.drips else b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret/ana.ics"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def freebusy(*lines):
    text = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//test//EN", "METHOD:PUBLISH", "BEGIN:VFREEBUSY", "UID:fb"]
    return "\r\n".join([*text, "DTSTAMP:20261101T000000Z", *lines, "END:VFREEBUSY", "END:VCALENDAR", ""]).encode()


def feed_in(folder, feed):
    """Make conductor-eu's busy feed known to the command line."""
    file = folder / "windows.toml"
    text = file.read_text()
    file.write_text(text.replace('name = "conductor-eu"', f'name = "conductor-eu"\ncalendar = "{feed.url}"', 1))
    assert file.read_text() != text
    return file
