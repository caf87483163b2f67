"""What CalDAV servers do, and what calsync makes of it: for the most part on the server that does the worst things."""

import re
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from calsync.calendars.caldav import collection
from calsync.calendars.caldav.calendar import CalDavCalendar
from calsync.calendars.caldav.client import Failed
from calsync.core.errors import Changed, Refused, Unreachable
from support.engines import Mirror, each_engine, standing
from support.samples import ics

KEEPS = {"overwrites": False, "creates_missing": False, "deletes_anyway": False, "races": False}
"""The switches with which the unruly server keeps preconditions."""
MULTISTATUS = '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">{}</d:multistatus>'
CONDITION = '<d:error xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav">{}</d:error>'


def event(text="Train", uid="a", *lines):
    return ics(
        f"SUMMARY:{text}",
        f"X-CALSYNC-MARK:mark-{text}",
        "DTSTART:20261201T090000Z",
        "DTEND:20261201T100000Z",
        *lines,
        uid=uid,
    )


def put(calendar, name, text, *, etag=None):
    calendar.put(name, event(text, name), etag=etag)
    return standing(calendar)[name]


def written(found, name="a.ics"):
    return re.search(rb"SUMMARY:(.*?)\r?\n", found[name].ics)[1].decode()


# Where the calendar is


def test_the_calendars_own_address_is_taken_with_or_without_the_slash_at_its_end(caldav):
    put(caldav.open(), "a.ics", "Train")
    assert standing(caldav.open(caldav.url.rstrip("/"))).keys() == {"a.ics"}


@pytest.mark.heavy
def test_a_principals_address_leads_to_the_calendar_of_the_configured_name(caldav):
    other = caldav.server.new_calendar("Somebody else's")
    url = caldav.server.new_calendar(f"Deployments {other[-8:]}")
    config = caldav.config(caldav.server.principal_url, calendar={"name": f"Deployments {other[-8:]}"})
    calendar = CalDavCalendar(config.calendar.url, config.calendar.name, config.username, config.password, 10)
    caldav.stack.callback(calendar.close)
    put(calendar, "a.ics", "Train")
    assert standing(caldav.open(url)).keys() == {"a.ics"}
    assert standing(caldav.open(other)) == {}


@pytest.mark.parametrize(("calendars", "said"), [(0, "no calendar"), (2, "several calendars")])
def test_a_name_that_no_calendar_or_several_have_is_refused_with_those_that_there_are(caldav, calendars, said):
    name = f"Deployments {caldav.url[-8:]}"
    for _ in range(calendars):
        caldav.server.new_calendar(name)
    caldav.server.new_calendar(f"Other {name}")
    config = caldav.config(caldav.server.principal_url)
    calendar = CalDavCalendar(config.calendar.url, name, config.username, config.password, 10)
    caldav.stack.callback(calendar.close)
    with pytest.raises(Refused, match=f'{said} called "{name}".*"Other {name}".*set calendar.name'):
        calendar.changes(None)


def test_an_address_where_nothing_is_is_refused_with_the_remedy(caldav):
    with pytest.raises(Refused, match=r"no calendar.*(calendar\.url|calendar\.name)"):
        caldav.open(caldav.url.rstrip("/") + "x/").changes(None)


# Following


@pytest.mark.parametrize("switches", [{"knows_any_token": True}, {"knows_any_token": False}, {"token_412": True}])
def test_what_was_removed_while_the_server_forgot_the_token_is_gone(unruly, switches):
    unruly.control("switch", **KEEPS, **{"knows_any_token": False, **switches})
    calendar, person = unruly.open(), unruly.person()
    for name in ("a.ics", "b.ics"):
        put(calendar, name, "Train")
    mirror = Mirror(calendar)
    mirror.follow()
    person.remove("b.ics")
    person.write("c.ics", event(uid="c"))
    mirror.token = "http://unruly.example/sync/from-before-a-restore"
    assert mirror.follow().keys() == {"a.ics", "c.ics"}
    person.remove("a.ics")
    person.remove("c.ics")
    mirror.token = "http://unruly.example/sync/from-before-a-restore"
    assert mirror.follow() == {}


def test_what_comes_while_the_server_is_asked_again_about_a_forgotten_token_is_not_missed(unruly):
    unruly.control("switch", **KEEPS, knows_any_token=True)
    proxy, person = unruly.proxy(), unruly.person()
    person.write("a.ics", event())
    mirror = Mirror(unruly.open(proxy.through(unruly.url)))
    mirror.follow()
    mirror.token = "http://unruly.example/sync/from-before-a-restore"
    proxy.plan(2, None, then=lambda: person.write("b.ics", event("late", "b")))
    mirror.follow()
    assert mirror.follow().keys() == {"a.ics", "b.ics"}


@pytest.mark.parametrize("coarse", [False, True])
def test_without_sync_collection_no_change_is_missed_even_within_the_second_of_the_last_look(unruly, coarse):
    unruly.control("switch", **KEEPS, no_sync=True, coarse_ctag=coarse)
    calendar, person = unruly.open(), unruly.person()
    mirror = Mirror(calendar)
    mirror.follow()
    for n in range(6):
        person.write("a.ics", event(f"Train {n}", "a"))
        assert written(mirror.follow()) == f"Train {n}"
    person.remove("a.ics")
    assert mirror.follow() == {}


def test_without_sync_collection_a_token_names_one_state_even_within_a_second(unruly, monkeypatch):
    monkeypatch.setattr(collection, "_CTAG_RESOLUTION", 3600.0)
    unruly.control("switch", **KEEPS, no_sync=True)
    calendar, person = unruly.open(), unruly.person()
    tokens = [calendar.changes(None).token]
    for name in ("a", "b"):
        assert calendar.changes(None).token == tokens[-1]
        person.write(f"{name}.ics", event(uid=name))
        tokens.append(calendar.changes(None).token)
    assert len(set(tokens)) == 3


def test_without_sync_collection_a_ctag_that_stays_costs_one_request(unruly, monkeypatch):
    unruly.control("switch", **KEEPS, no_sync=True, coarse_ctag=False)
    monkeypatch.setattr(collection, "_CTAG_RESOLUTION", 0.0)
    proxy, person = unruly.proxy(), unruly.person()
    mirror = Mirror(unruly.open(proxy.through(unruly.url)))
    person.write("a.ics", event())
    mirror.follow()
    mirror.follow()
    before = len(proxy.requests)
    assert mirror.follow().keys() == {"a.ics"}
    assert [request.split()[0] for request in proxy.requests[before:]] == ["PROPFIND"]
    person.write("b.ics", event(uid="b"))
    assert mirror.follow().keys() == {"a.ics", "b.ics"}


def test_an_answer_in_parts_is_read_to_its_end(unruly):
    unruly.control("switch", **KEEPS)
    calendar, person = unruly.open(), unruly.person()
    mirror = Mirror(calendar)
    mirror.follow()
    for name in ("a", "b"):
        person.write(f"{name}.ics", event(uid=name))
    path = unruly.url[len(unruly.server.url) - 1 :]
    first = (
        f"<d:response><d:href>{path}a.ics</d:href><d:propstat><d:prop><d:getetag>&quot;gcs00000001&quot;</d:getetag>"
        "</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
        f"<d:response><d:href>{path}</d:href><d:status>HTTP/1.1 507 Insufficient Storage</d:status></d:response>"
        "<d:sync-token>http://unruly.example/sync/1</d:sync-token>"
    )
    unruly.next(207, method="REPORT", headers={"Content-Type": "application/xml"}, body=MULTISTATUS.format(first))
    found = mirror.follow()
    assert found.keys() == {"a.ics", "b.ics"}
    assert written(found) == "Train"


def test_a_resource_that_goes_while_it_is_fetched_takes_no_other_with_it(unruly):
    unruly.control("switch", **KEEPS, multiget_404=True)
    proxy, person = unruly.proxy(), unruly.person()
    for name in ("a", "b", "c"):
        person.write(f"{name}.ics", event(uid=name))
    calendar = unruly.open(proxy.through(unruly.url))
    calendar.changes(None)
    proxy.plan(2, None, then=lambda: person.remove("b.ics"))
    assert standing(calendar).keys() == {"a.ics", "c.ics"}


def test_what_other_clients_call_their_resources_does_not_matter(caldav):
    calendar, person = caldav.open(), caldav.person()
    mirror = Mirror(calendar)
    mirror.follow()
    names = ["two words.ics", "größe+1 & more.ics", "50%25.ics", "a@b.ics"]
    if caldav.engine != "xandikos":  # it takes events only at names that end with .ics
        names.append("no-suffix")
    for name in names:
        person.write(name, event("One", name))
        assert written(mirror.follow(), name) == "One"
        changed = put(calendar, name, "Two", etag=mirror.known[name].etag)
        assert mirror.follow()[name] == changed
    assert mirror.known.keys() == set(names)
    for name in names:
        person.remove(name)
    assert mirror.follow() == {}


# Writing


def test_writes_carry_one_condition_and_their_length_and_never_go_to_the_calendar_itself(caldav):
    proxy = caldav.proxy()
    calendar = caldav.open(proxy.through(caldav.url))
    calendar.probe()
    proxy.messages.clear()
    first = put(calendar, "a.ics", "one")
    second = put(calendar, "a.ics", "two", etag=first.etag)
    calendar.delete("a.ics", etag=second.etag)
    heads = [message.partition(b"\r\n\r\n") for message in proxy.messages if message[:3] in (b"PUT", b"DEL")]
    conditions = [re.findall(rb"\r\n(If-[^:]+): ?([^\r]*)", head, re.IGNORECASE) for head, _, _ in heads]
    matching = [(b"If-Match", f'"{made.etag}"'.encode()) for made in (first, second)]
    assert conditions == [[(b"If-None-Match", b"*")], [matching[0]], [matching[1]]]
    for head, _, body in heads:
        assert b"transfer-encoding" not in head.lower()
        assert head.split()[1].endswith(b"/a.ics")
        assert not body or re.search(rb"\r\nContent-Length: (\d+)", head, re.IGNORECASE)[1] == str(len(body)).encode()


def test_on_a_server_that_was_found_to_ignore_preconditions_ones_own_write_is_recognised(caldav):
    calendar = caldav.open()
    calendar._ignores_preconditions = True
    calendar._pause = lambda _seconds: None
    first = put(calendar, "a.ics", "one")
    assert written(standing(calendar)) == "one"
    put(calendar, "a.ics", "two", etag=first.etag)
    with pytest.raises(Changed):
        put(calendar, "a.ics", "three", etag=first.etag)
    assert written(standing(calendar)) == "two"


def test_a_write_that_stands_although_its_answer_is_an_error_is_known_again(caldav, monkeypatch):
    calendar = caldav.open()
    first = put(calendar, "a.ics", "one")
    write = calendar._put

    def written_and_failed(*arguments):
        write(*arguments)
        raise Failed(502)

    monkeypatch.setattr(calendar, "_put", written_and_failed)
    made = calendar.put("a.ics", event("two", "a.ics"), etag=first.etag)
    assert (made.etag, written(standing(calendar))) == (standing(calendar)["a.ics"].etag, "two")


def test_an_event_is_never_written_over_the_calendar_whatever_a_server_makes_of_that(unruly):
    calendar = unruly.open()
    put(calendar, "a.ics", "Train")
    unruly.control("switch", replaces_calendar=True, moved=308)
    put(calendar, "b.ics", "Train")
    assert standing(calendar).keys() == {"a.ics", "b.ics"}


def test_an_etag_that_a_proxy_made_weak_still_names_the_resource(unruly):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    calendar.probe()
    unruly.next(201, method="PUT", headers={"ETag": 'W/"gcs00000001"'}, done=True)
    told = calendar.put("a.ics", event(), etag=None)
    assert told.etag == standing(calendar)["a.ics"].etag
    calendar.delete("a.ics", etag=told.etag)
    assert standing(calendar) == {}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirected_write_keeps_its_method_and_its_body(unruly, status):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    calendar.probe()
    unruly.control("switch", moved=status)
    first = put(calendar, "a.ics", "one")
    second = put(calendar, "a.ics", "two", etag=first.etag)
    assert written(standing(unruly.open())) == "two"
    calendar.delete("a.ics", etag=second.etag)
    assert standing(calendar) == {}


@pytest.mark.parametrize("method", ["PROPFIND", "REPORT", "PUT", "DELETE"])
@pytest.mark.parametrize("status", [301, 308])
def test_a_redirect_to_another_host_is_refused_and_nothing_is_sent_there(unruly, method, status):
    unruly.control("switch", **KEEPS)
    elsewhere, calendar = unruly.proxy(), unruly.open()
    if method != "PROPFIND":
        calendar.probe()
    made = put(unruly.open(), "a.ics", "one")
    unruly.next(status, method=method, headers={"Location": elsewhere.through(unruly.url)})
    act = {
        "PUT": lambda: calendar.put("a.ics", event("two"), etag=made.etag),
        "DELETE": lambda: calendar.delete("a.ics", etag=made.etag),
    }.get(method, lambda: calendar.changes(None))
    with pytest.raises(Refused, match=r"redirects to another host.*calendar\.url"):
        act()
    assert elsewhere.requests == []
    assert standing(unruly.open()) == {"a.ics": made}


def test_a_redirect_in_a_circle_ends(unruly):
    for _ in range(4):
        unruly.next(302, headers={"Location": unruly.url})
    with pytest.raises(Refused, match="in a circle"):
        unruly.open().changes(None)


UID = CONDITION.format("<c:no-uid-conflict/>")
DATA = CONDITION.format("<c:valid-calendar-data/>")


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, "", Refused, "CALSYNC_CALENDAR_PASSWORD"),
        (403, "", Refused, "right to read and write"),
        (403, UID, Refused, "under another name"),
        (403, DATA, Refused, "valid-calendar-data"),
        (409, "", Unreachable, "failed for now"),
        (409, UID, Refused, "under another name"),
        (412, "", Changed, "exists already"),
        (412, UID, Refused, "under another name"),
        (412, DATA, Refused, "valid-calendar-data"),
        (413, "", Refused, "too large"),
        (423, "", Unreachable, "failed for now"),
        (500, "<html>Oops</html>", Unreachable, "failed for now"),
        (503, "", Unreachable, "failed for now"),
        (507, "", Refused, "no space"),
    ],
)
def test_what_a_server_answers_to_a_write_is_told_apart_and_nothing_stands(unruly, status, body, error, said):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    calendar.probe()
    unruly.next(status, method="PUT", body=body, headers={"Content-Type": "application/xml"}, count=2)
    with pytest.raises(error, match=said):
        calendar.put("a.ics", event(), etag=None)
    unruly.control("reset")
    assert standing(calendar) == {}


@pytest.mark.parametrize("ignores_preconditions", [False, True])
def test_a_write_that_stands_although_the_server_said_no_counts(unruly, ignores_preconditions):
    unruly.control("switch", **KEEPS | {"overwrites": ignores_preconditions})
    calendar = unruly.open()
    calendar.probe()
    for status in (403, 409, 412, 423, 500, 502, 503, 504):
        unruly.next(status, method="PUT", done=True)
        calendar.put("a.ics", event("one"), etag=None)
        made = standing(calendar)["a.ics"]
        unruly.next(status, method="DELETE", done=True)
        with pytest.raises(Changed) if status == 412 else nullcontext():
            calendar.delete("a.ics", etag=made.etag)
        assert standing(calendar) == {}


@pytest.mark.parametrize("status", [409, 412, 423, 500])
def test_a_lost_race_is_one_whatever_the_server_says_of_it(unruly, status):
    unruly.control("switch", **KEEPS)
    calendar, person = unruly.open(), unruly.person()
    first = put(calendar, "a.ics", "one")
    person.write("a.ics", event("theirs", "a.ics"))
    person.write("b.ics", event("theirs", "b"))
    unruly.next(status, method="PUT", count=2)
    for name, etag in (("a.ics", first.etag), ("b.ics", None)):
        with pytest.raises(Changed):
            calendar.put(name, event("two", name.removesuffix(".ics")), etag=etag)
    unruly.next(status, method="DELETE")
    with pytest.raises(Changed):
        calendar.delete("a.ics", etag=first.etag)
    assert {written(standing(calendar), name) for name in ("a.ics", "b.ics")} == {"theirs"}


@pytest.mark.parametrize("status", [403, 423, 500, 503])
def test_a_removal_that_was_not_done_is_told_and_the_resource_stands(unruly, status):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    made = put(calendar, "a.ics", "one")
    unruly.next(status, method="DELETE")
    with pytest.raises(Refused if status == 403 else Unreachable):
        calendar.delete("a.ics", etag=made.etag)
    assert standing(calendar) == {"a.ics": made}


@pytest.mark.parametrize("status", [404, 410])
def test_removing_what_is_gone_is_a_lost_race(unruly, status):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    made = put(calendar, "a.ics", "one")
    unruly.next(status, method="DELETE")
    with pytest.raises(Changed):
        calendar.delete("a.ics", etag=made.etag)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("ignores_preconditions", [False, True])
@pytest.mark.parametrize("then", [403, 423, 500])
def test_a_server_in_trouble_before_and_after_a_write_raises_nothing_but_calsyncs_errors(
    unruly, method, ignores_preconditions, then
):
    unruly.control("switch", **KEEPS | {"overwrites": ignores_preconditions})
    calendar = unruly.open()
    made = put(calendar, "a.ics", "one")
    unruly.next(500, method=method)
    unruly.next(then, method="REPORT", count=9)
    act = {
        "PUT": lambda: calendar.put("a.ics", event("two", "a.ics"), etag=made.etag),
        "DELETE": lambda: calendar.delete("a.ics", etag=made.etag),
    }[method]
    with pytest.raises((Unreachable, Refused)):
        act()
    unruly.control("reset")
    assert standing(calendar) == {"a.ics": made}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "REPORT"])
@pytest.mark.parametrize(
    ("after", "low", "high"), [("7", 7, 7), ("date", 60, 120), ("soon", 30, 30), ("0", 1, 30), ("-1", 1, 30)]
)
def test_a_server_that_asks_for_patience_is_given_it(unruly, status, method, after, low, high):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    made = put(calendar, "a.ics", "one")
    if after == "date":
        after = format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)
    unruly.next(status, method=method, headers={"Retry-After": after}, count=2)
    act = {
        "PUT": lambda: calendar.put("a.ics", event("two"), etag=made.etag),
        "DELETE": lambda: calendar.delete("a.ics", etag=made.etag),
        "REPORT": lambda: calendar.changes(None),
    }[method]
    with pytest.raises(Unreachable, match="rate limiting") as caught:
        act()
    assert low <= caught.value.retry_after <= high
    unruly.control("reset")
    assert standing(calendar) == {"a.ics": made}


@pytest.mark.parametrize("method", ["PROPFIND", "REPORT"])
@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", "<!DOCTYPE html><html><body><form>Log in</form><br></body></html>"),
        (207, "application/xml", MULTISTATUS.format("<d:response><d:href>/a")[:80]),
        (207, "application/xml", "<html/>"),
        (207, "application/xml", ""),
        (204, "text/plain", ""),
        (200, "application/xml", MULTISTATUS.format("")),
    ],
)
def test_what_is_no_answer_of_a_calendar_empties_no_agenda(unruly, method, status, kind, body):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    mirror = Mirror(calendar)
    if method == "REPORT":
        put(calendar, "a.ics", "one")
        mirror.follow()
    unruly.next(status, method=method, headers={"Content-Type": kind}, body=body)
    with pytest.raises(Unreachable, match=r"login page|not valid XML"):
        mirror.follow()
    assert mirror.follow().keys() == ({"a.ics"} if method == "REPORT" else set())


def test_an_empty_listing_without_a_sync_token_empties_no_agenda(unruly):
    unruly.control("switch", **KEEPS)
    calendar = unruly.open()
    put(calendar, "a.ics", "one")
    mirror = Mirror(calendar)
    mirror.follow()
    unruly.next(207, method="REPORT", headers={"Content-Type": "application/xml"}, body=MULTISTATUS.format(""))
    with pytest.raises(Unreachable, match="sync token"):
        mirror.follow()
    assert mirror.follow().keys() == {"a.ics"}


# What a server can do


BROKEN = {
    "overwrites": "Ignores If-None-Match",
    "deletes_anyway": "Ignores If-Match on DELETE",
    "creates_missing": "Ignores If-Match for a missing event",
    "races": "Two concurrent changes",
    "loses_emoji": "May lose or alter",
    "no_sync": "Does not report what changed",
}


def broken(capabilities):
    return [capability.sentence for capability in capabilities if not capability.holds]


def left_behind(place):
    answer = place.person().http.request("PROPFIND", place.url, headers={"Depth": "1"})
    return re.findall("calsync-probe[^<]*", answer.text)


@pytest.mark.parametrize("caldav", each_engine("radicale", "xandikos"), indirect=True)
def test_good_servers_have_every_capability_and_nothing_remains_of_the_trial(caldav):
    capabilities = caldav.open().probe()
    assert len(capabilities) > 6
    assert broken(capabilities) == []
    assert left_behind(caldav) == []


@pytest.mark.parametrize("switch", BROKEN)
def test_each_capability_that_a_server_lacks_is_found_out(unruly, switch):
    unruly.control("switch", **KEEPS, loses_emoji=False)
    unruly.control("switch", **{switch: True})
    calendar = unruly.open()
    said = broken(calendar.probe())
    assert any(sentence.startswith(BROKEN[switch]) for sentence in said), said
    assert any(one.startswith("calsync reads before each write") for one in said) == (switch in KEEPS)
    assert len(said) <= (4 if switch in KEEPS else 1), said
    assert left_behind(unruly) == []


@pytest.mark.parametrize("status", [423, 500, 503])
def test_a_server_in_trouble_is_not_taken_for_one_that_has_the_capabilities(unruly, status):
    unruly.control("switch", races=True)
    calendar = unruly.open()
    calendar.changes(None)
    unruly.next(status, count=60)
    with pytest.raises(Unreachable):
        calendar.probe()
    unruly.control("reset")
    assert broken(calendar.probe())
    assert left_behind(unruly) == []


def test_a_calendar_that_may_only_be_read_is_refused_with_the_remedy_and_followed_all_the_same(unruly):
    calendar = unruly.open()
    unruly.next(403, method="PUT", count=60)
    with pytest.raises(Refused, match="right to read and write"):
        calendar.put("a.ics", event(), etag=None)
    with pytest.raises(Refused, match="right to read and write"):
        calendar.probe()
    assert standing(calendar) == {}
