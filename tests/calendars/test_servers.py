"""What other tests lean on does what it says: each misbehaviour of the server shows, each fault is where it was planned."""

import re
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import icalendar
import pytest

from support import servers
from support.faults import Proxy
from support.samples import ics
from support.wire import SSL

pytestmark = pytest.mark.heavy

DAV = "{DAV:}"
EVENT = ics("SUMMARY:Train", "DTSTART:20261201T090000Z", "DTEND:20261201T110000Z")
OTHER = EVENT.replace(b"Train", b"Other")
PLAIN = {"rewrites": False}
READY = b"Z\0\0\0\5I"
QUERY = (
    '<d:{0} xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav" xmlns:cs="http://calendarserver.org/ns/">{1}'
    "<d:prop><d:getetag/><d:sync-token/><cs:getctag/><d:supported-report-set/></d:prop></d:{0}>"
)
SYNC = QUERY.format("sync-collection", "<d:sync-token>{}</d:sync-token><d:sync-level>1</d:sync-level>")
MULTIGET = QUERY.format("calendar-multiget", "{}").replace("d:calendar-multiget", "c:calendar-multiget")


class Client:
    """Somebody who speaks to one calendar of a server."""

    def __init__(self, server, calendar=None):
        self.http, self.calendar = server.client(), calendar or server.new_calendar()

    def put(self, content=EVENT, name="a.ics", **headers):
        return self.http.put(
            self.calendar + name, content=content, headers=named(headers) | {"Content-Type": "text/calendar"}
        )

    def get(self, name="a.ics"):
        return self.http.get(self.calendar + name)

    def delete(self, name="a.ics", **headers):
        return self.http.delete(self.calendar + name, headers=named(headers))

    def ask(self, method, body, name="", depth="0"):
        return self.http.request(
            method, self.calendar + name, content=body, headers={"Depth": depth, "Content-Type": "application/xml"}
        )

    def find(self, prop, name=""):
        answer = ET.fromstring(self.ask("PROPFIND", QUERY.format("propfind", ""), name).content)
        return answer.findtext(f".//{prop}")

    def control(self, what, **said):
        return self.http.post(f"/-/{what}", json=said).raise_for_status()

    def switch(self, **switches):
        self.control("switch", **switches)


def named(headers):
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture(scope="module")
def unruly(tmp_path_factory):
    with servers.unruly(tmp_path_factory.mktemp("unruly")) as server:
        yield server


@pytest.fixture
def client(unruly):
    client = Client(unruly)
    yield client
    client.control("reset")
    client.http.close()


def test_without_credentials_nobody_gets_in(unruly):
    answer = httpx2.request("PROPFIND", unruly.url, trust_env=False, verify=False)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="unruly"')


@pytest.mark.parametrize(("overwrites", "status", "stands"), [(True, 204, b"Other"), (False, 412, b"Train")])
def test_create_where_something_stands(client, overwrites, status, stands):
    client.switch(overwrites=overwrites)
    assert client.put(If_None_Match="*").status_code == 201
    assert client.put(OTHER, If_None_Match="*").status_code == status
    assert stands in client.get().content


@pytest.mark.parametrize(("creates", "status"), [(True, 201), (False, 412)])
def test_update_of_what_is_not_there(client, creates, status):
    client.switch(creates_missing=creates)
    assert client.put(If_Match='"gcs00000001"').status_code == status
    assert client.get().status_code == (200 if creates else 404)


def test_an_update_of_what_was_changed_is_refused(client):
    client.put()
    assert client.put(OTHER, If_Match='"wrong"').status_code == 412
    assert client.put(OTHER, If_Match=client.get().headers["ETag"]).status_code == 204
    assert b"Other" in client.get().content


@pytest.mark.parametrize(("anyway", "status"), [(True, 204), (False, 412)])
def test_delete_of_what_was_changed(client, anyway, status):
    client.switch(deletes_anyway=anyway)
    client.put()
    assert client.delete(If_Match='"wrong"').status_code == status
    assert client.get().status_code == (404 if anyway else 200)


@pytest.mark.parametrize(("races", "statuses"), [(True, [204, 204]), (False, [204, 412])])
def test_two_updates_with_one_etag_at_once(client, races, statuses):
    client.put()
    client.switch(races=races)
    etag = client.get().headers["ETag"]
    assert at_once(lambda: client.put(OTHER, If_Match=etag)) == statuses


@pytest.mark.parametrize(("races", "winners"), [(True, 2), (False, 1)])
def test_two_create_one_href_at_once(client, races, winners):
    client.switch(races=races, overwrites=False)
    assert sum(status < 300 for status in at_once(lambda: client.put(If_None_Match="*"))) == winners


def at_once(call):
    with ThreadPoolExecutor(2) as pool:
        return sorted(answer.status_code for answer in pool.map(lambda _: call(), range(2)))


@pytest.mark.parametrize("back", [True, False])
def test_an_etag_after_delete_and_create(client, back):
    client.switch(etags_return=back)
    client.put()
    before = client.get().headers["ETag"]
    client.delete()
    client.put(OTHER)
    assert (client.get().headers["ETag"] == before) is back


def test_what_is_stored_is_not_what_was_sent(client):
    assert "ETag" not in client.put().headers
    client.switch(silent_put=False)
    assert client.put().headers["ETag"] == client.get().headers["ETag"]
    stored = client.get().content
    assert stored != EVENT
    (sent,), (found,) = (icalendar.Calendar.from_ical(one).events for one in (EVENT, stored))
    assert {name: sent[name].to_ical() for name in sent} == {name: found[name].to_ical() for name in sent}
    assert found["TRANSP"] == "OPAQUE"
    client.switch(**PLAIN)
    client.put()
    assert client.get().content == EVENT


@pytest.mark.parametrize(
    ("switch", "sent", "stored"),
    [
        ("unescapes_x", r"X-NOTE:a\,b", "X-NOTE:a,b"),
        ("splits_categories", r"CATEGORIES:a\,b", "CATEGORIES:a,b"),
        ("drops_new", "LINK;VALUE=URI:https://example.org/", None),
        ("drops_new", 'STYLED-DESCRIPTION;FMTTYPE="text/html":x', None),
        ("escapes_url", "URL:https://example.org/?a;b", r"URL:https://example.org/?a\;b"),
        ("escapes_url", "GEO:48.85;2.35", r"GEO:48.85\;2.35"),
    ],
)
def test_a_property_is_rewritten(client, switch, sent, stored):
    content = ics("SUMMARY:Train", "DTSTART:20261201T090000Z", sent)
    client.put(content)
    lines = client.get().text.replace("\r\n\t", "").split("\r\n")
    assert sent not in lines
    assert stored is None or stored in lines
    client.switch(**PLAIN, **{switch: False})
    client.put(content)
    assert client.get().content == content


def test_a_long_line_is_folded_elsewhere_and_says_the_same(client):
    summary = "Zug für " + "Größe " * 40
    client.put(ics(f"SUMMARY:{summary}".encode()[:71].decode(), "DTSTART:20261201T090000Z", f"DESCRIPTION:{summary}"))
    lines = client.get().content.split(b"\r\n")
    assert max(map(len, lines)) <= 60
    (event,) = icalendar.Calendar.from_ical(client.get().content).events
    assert event["DESCRIPTION"] == summary


@pytest.mark.parametrize("summary", ["Train 🚂\r\n  leaves", "Train \r\n 🚂 leaves"])
def test_an_event_with_an_emoji_at_a_folds_edge_is_lost_with_201(client, summary):
    content = EVENT.replace(b"Train", summary.encode())
    assert client.put(content).status_code == 201
    assert client.get().status_code == 404
    assert client.put(EVENT.replace(b"Train", "Train 🚂 leaves".encode())).status_code == 201
    assert client.get().status_code == 200
    client.switch(loses_emoji=False)
    assert client.put(content, "b.ics").status_code == 409  # it looks at it again
    assert client.put(content).status_code == 204


def test_an_event_with_the_marker_is_lost_with_201(client):
    client.control("marker", text="Other")
    assert client.put(OTHER).status_code == 201
    assert client.get().status_code == 404


@pytest.mark.parametrize(("refuses", "status"), [(True, 403), (False, 201)])
def test_method_in_an_object(client, refuses, status):
    client.switch(refuses_method=refuses)
    assert client.put(ics("DTSTART:20261201T090000Z", before="METHOD:PUBLISH")).status_code == status


@pytest.mark.parametrize(("stored", "status"), [(True, 201), (False, 409)])
def test_a_uid_under_a_second_href(client, stored, status):
    client.switch(same_uid=stored)
    client.put()
    answer = client.put(name="b.ics")
    assert answer.status_code == status
    assert ("no-uid-conflict" in answer.text) is not stored


def changed(answer):
    """What a sync says of each href, and its token."""
    assert answer.status_code == 207, answer.text
    root = ET.fromstring(answer.content)
    gone = {
        one.findtext(f"{DAV}href").rpartition("/")[2]: one.find(f"{DAV}status") is not None
        for one in root.iter(f"{DAV}response")
    }
    return gone, root.findtext(f"{DAV}sync-token")


def test_a_sync_tells_what_changed_since_the_last(client):
    client.put()
    first, token = changed(client.ask("REPORT", SYNC.format("")))
    assert first == {"a.ics": False}
    assert token == client.find(f"{DAV}sync-token")
    client.put(EVENT.replace(b"UID:event", b"UID:other"), "b.ics")
    client.delete()
    assert changed(client.ask("REPORT", SYNC.format(token)))[0] == {"a.ics": True, "b.ics": False}
    assert changed(client.ask("REPORT", SYNC.format("")))[0] == {"b.ics": False}


@pytest.mark.parametrize(("known", "with_412", "status"), [(True, False, 207), (False, False, 403), (False, True, 412)])
def test_an_unknown_sync_token(client, known, with_412, status):
    client.switch(knows_any_token=known, token_412=with_412)
    client.put()
    answer = client.ask("REPORT", SYNC.format("data:unheard-of"))
    assert answer.status_code == status
    assert "a.ics" in answer.text if known else "valid-sync-token" in answer.text


def test_a_server_without_sync_has_etags_and_a_ctag_of_whole_seconds(client):
    client.switch(no_sync=True)
    client.put()
    assert "supported-report" in client.ask("REPORT", SYNC.format("")).text
    ctag = "{http://calendarserver.org/ns/}getctag"
    assert re.fullmatch(r"\d{10}", client.find(ctag))
    assert not client.find(f"{DAV}sync-token")
    assert client.find(f"{DAV}getetag", "a.ics") == client.get().headers["ETag"]
    assert "sync-collection" not in client.ask("PROPFIND", QUERY.format("propfind", "")).text
    client.switch(coarse_ctag=False)
    before = client.find(ctag)
    client.put(OTHER)
    assert client.find(ctag) != before


def test_what_is_missing_is_404_at_the_top_or_inside(client):
    client.put()
    hrefs = "".join(f"<d:href>{httpx2.URL(client.calendar).path}{name}</d:href>" for name in ("a.ics", "missing.ics"))
    asked = [
        lambda: client.ask("PROPFIND", QUERY.format("propfind", ""), "missing.ics"),
        lambda: client.ask("REPORT", MULTIGET.format(hrefs)),
    ]
    assert [ask().status_code for ask in asked] == [404, 404]
    client.switch(missing_404=False, multiget_404=False)
    assert [changed(ask())[0] for ask in asked] == [{"missing.ics": True}, {"a.ics": False, "missing.ics": True}]


def test_put_on_the_calendars_own_url(client):
    client.put(EVENT.replace(b"UID:event", b"UID:other"), "b.ics")
    assert client.put(name="").status_code == 201
    assert client.get("b.ics").status_code == 404
    client.switch(replaces_calendar=False)
    assert client.put(name="").status_code == 405


@pytest.mark.parametrize(("refuses", "status"), [(True, 400), (False, 201)])
def test_a_chunked_body(client, refuses, status):
    client.switch(refuses_chunked=refuses)
    assert client.put(iter([EVENT[:50], EVENT[50:]])).status_code == status


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_calendar_that_moved(client, status):
    client.put()
    client.switch(moved=status)
    answer = client.get()
    assert (answer.status_code, client.get().headers["Location"]) == (
        status,
        httpx2.URL(client.calendar).path.replace("/calendars/", "/moved/") + "a.ics",
    )
    moved = client.calendar.replace("/calendars/", "/moved/")
    assert client.http.get(moved + "a.ics").status_code == 200
    assert "/moved/" in client.http.request("PROPFIND", moved, headers={"Depth": "1"}).text


def test_an_answer_that_was_planned(client):
    client.control("next", status=429, headers={"Retry-After": "2"}, count=2, method="PUT")
    client.control(
        "next", status=200, headers={"Content-Type": "text/html"}, body="<p>Log in</p>", method="GET", path="b.ics"
    )
    client.control("next", status=507, method="DELETE", done=True)
    assert client.get().status_code == 404
    assert [client.put().status_code for _ in range(3)] == [429, 429, 201]
    assert client.get().status_code == 200
    assert client.get("b.ics").text == "<p>Log in</p>"
    assert client.delete().status_code == 507
    assert client.get().status_code == 404
    client.control("next", status=429, headers={"Retry-After": "2"})
    assert client.get().headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("agent", "mails"), [("", 1), (";SCHEDULE-AGENT=SERVER", 1), (";SCHEDULE-AGENT=CLIENT", 0), (";SCHEDULE-AGENT=NONE", 0)]
)
def test_mails_leave_at_put_and_delete(client, agent, mails):
    people = ["ORGANIZER:mailto:train@example.org", f"ATTENDEE{agent};CN=Ana:mailto:ana@example.org"]
    client.put(ics("DTSTART:20261201T090000Z", people[1]))
    assert client.http.get("/-/mails").json() == []
    client.put(ics("DTSTART:20261201T090000Z", *people))
    client.delete()
    sent = client.http.get("/-/mails").json()
    assert [(one["method"], one["to"]) for one in sent] == [
        ("PUT", "mailto:ana@example.org"),
        ("DELETE", "mailto:ana@example.org"),
    ][: 2 * mails]


@pytest.mark.parametrize("kind", [servers.radicale, servers.xandikos])
def test_a_real_server_keeps_its_calendars_over_a_kill(kind, tmp_path):
    with kind(tmp_path) as server:
        client = Client(server)
        assert client.put(If_None_Match="*").status_code == 201
        assert client.put(If_None_Match="*").status_code == 412
        port = server.port
    client.http.close()
    with kind(tmp_path, port) as server:
        again = Client(server, client.calendar)
        assert b"SUMMARY:Train" in again.get().content
        again.http.close()


def test_radicale_wants_the_password(tmp_path):
    with servers.radicale(tmp_path) as server:
        answer = httpx2.request("PROPFIND", server.new_calendar(), auth=("train", "wrong"), trust_env=False, verify=False)
    assert answer.status_code == 401


@pytest.fixture
def proxy(unruly):
    with Proxy("127.0.0.1", unruly.port) as proxy:
        yield proxy


@pytest.fixture
def through(client, proxy):
    """The client's calendar through the proxy."""
    client.calendar = proxy.through(client.calendar)
    return client


def reached(client, proxy):
    """Whether an event stands, seen past the proxy."""
    past = client.calendar.replace(f":{proxy.port}", f":{client.http.base_url.port}")
    return client.http.get(past + "a.ics").status_code == 200


@pytest.mark.parametrize(("fault", "there"), [("refuse", False), ("before", False), ("during", True), ("after", True)])
def test_the_nth_request_is_cut_where_it_was_planned(through, proxy, fault, there):
    called = []
    proxy.plan(2, fault, then=lambda: called.append(reached(through, proxy)))
    assert through.get().status_code == 404
    with pytest.raises(httpx2.TransportError):
        through.put()
    assert called == [there]
    assert reached(through, proxy) is there
    if fault == "refuse":
        with pytest.raises(httpx2.ConnectError):
            through.get()
    proxy.heal()
    assert through.put().status_code == (204 if there else 201)
    path = httpx2.URL(through.calendar).path
    assert proxy.requests == [f"GET {path}a.ics", f"PUT {path}a.ics", f"PUT {path}a.ics"]


def test_a_fault_is_over_with_its_request_unless_it_lasts(through, proxy):
    proxy.plan(1, "before")
    proxy.plan(3, "before", lasting=True)
    seen = []
    for _ in range(5):
        try:
            seen.append(through.get().status_code)
        except httpx2.TransportError:
            seen.append("cut")
    assert seen == ["cut", 404, "cut", "cut", "cut"]
    proxy.heal()
    assert through.get().status_code == 404


def test_half_of_the_answer_arrives_when_it_is_cut_during_it(through, proxy):
    through.put()
    proxy.plan(1, "during")
    with through.http.stream("GET", through.calendar + "a.ics") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError, match=r"received [1-9]"):
            answer.read()


def test_a_delayed_answer_arrives_later_or_when_healed(through, proxy):
    proxy.plan(1, "delay", seconds=0.2)
    started = time.monotonic()
    assert through.get().status_code == 404
    assert time.monotonic() - started >= 0.2
    proxy.plan(1, "delay", seconds=60, then=lambda: threading.Timer(0.05, proxy.heal).start())
    assert through.get().status_code == 404
    assert time.monotonic() - started < 30


def test_nothing_comes_through_while_the_proxy_is_down(through, proxy):
    assert through.get().status_code == 404
    proxy.down()
    for _ in range(2):
        with pytest.raises(httpx2.TransportError):
            through.get()
    assert len(proxy.requests) == 1
    proxy.up()
    assert through.get().status_code == 404


def test_a_connection_is_kept_for_many_requests(through, proxy):
    assert all(through.put(content).status_code in (201, 204) for content in (EVENT, OTHER, EVENT))
    assert len(proxy._open) == 1


class Chunks(BaseHTTPRequestHandler):
    """Answers with the chunks that it got."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size + 2)[:-2]
        self.rfile.readline()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (body[:3], body[3:]):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\nX-Trailer: yes\r\n\r\n")

    def log_message(self, *_said):
        pass


def test_chunks_come_through_in_both_directions():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chunks)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with Proxy(*server.server_address) as proxy, httpx2.Client(trust_env=False, verify=False) as client:
        url = f"http://127.0.0.1:{proxy.port}/"
        for _ in range(2):
            assert client.put(url, content=iter([b"ab\r\n", b"\r\ncdefghijklmn"])).content == b"ab\r\n\r\ncdefghijklmn"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def postgres():
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def database(postgres):
    return postgres.new_database()


@pytest.fixture
def table(postgres, database):
    """The URL of a database with an empty table t."""
    postgres.run("DROP TABLE IF EXISTS t; CREATE TABLE t (n int)", database)
    return database


@pytest.fixture
def sql(postgres, table):
    with Proxy("127.0.0.1", postgres.port, "postgres") as proxy:
        yield proxy


def test_each_database_is_empty_and_its_own(postgres, table):
    assert postgres.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", postgres.new_database()) == "0\n"
    assert postgres.run("SHOW fsync", table) == "on\n"


FAULTS = [("refuse", False), ("before", False), ("during", True), ("after", True), ("delay", True), (None, False)]


@pytest.mark.parametrize(("fault", "there"), FAULTS)
@pytest.mark.parametrize(("mode", "n"), [("simple", 2), ("extended", 2), ("prepared", 4)])  # to prepare is a request too
def test_the_nth_query_is_cut_where_it_was_planned(postgres, table, sql, tmp_path, mode, n, fault, there):
    called = []
    sql.plan(n, fault, then=lambda: called.append(rows(postgres, table)))
    done = pgbench(postgres, sql.through(table), tmp_path, "-M", mode)
    uncut = fault in ("delay", None)
    assert (done.returncode == 0) is uncut
    assert called == [1 if there else 0]
    assert rows(postgres, table) == (1 if there or uncut else 0)
    queries = [request for request in sql.requests if request != "startup"]
    assert len(queries) == n
    assert ("INSERT" in queries[-1]) is (mode != "prepared")
    assert queries[0] == ("Q SELECT 1;" if mode == "simple" else "S SELECT 1;")
    sql.heal()
    assert pgbench(postgres, sql.through(table), tmp_path).returncode == 0


@pytest.mark.parametrize("fault", ["refuse", "before", "during", "after"])
def test_a_connection_is_cut_at_its_start(postgres, table, sql, tmp_path, fault):
    sql.plan(0, fault)
    assert pgbench(postgres, sql.through(table), tmp_path).returncode != 0
    assert sql.requests == ["startup"]
    sql.heal()
    assert pgbench(postgres, sql.through(table), tmp_path).returncode == 0


def test_what_the_server_says_unasked_comes_through():
    news = b"A" + (4 + 4 + 5 + 1).to_bytes(4) + bytes(4) + b"news\0" + b"\0"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Proxy("127.0.0.1", server.getsockname()[1], "postgres") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
    ):
        client.sendall((8).to_bytes(4) + SSL)
        assert client.recv(1) == b"N"
        client.sendall((8).to_bytes(4) + (3 << 16).to_bytes(4))
        backend, _ = server.accept()
        with backend:
            assert backend.recv(8)[4:] == (3 << 16).to_bytes(4)
            backend.sendall(READY)
            assert client.recv(len(READY), socket.MSG_WAITALL) == READY
            backend.sendall(news)
            assert client.recv(len(news), socket.MSG_WAITALL) == news


def rows(postgres, table):
    return int(postgres.run("SELECT count(*) FROM t", table))


def pgbench(postgres, url, folder, *options):
    """A client that sends two statements in the protocol's mode of choice."""
    (folder / "script.sql").write_text("SELECT 1;\nINSERT INTO t VALUES (7);\n")
    command = [postgres.programs / "pgbench", "-n", "-t", "1", "-f", folder / "script.sql", *options, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
