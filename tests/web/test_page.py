"""The page: where things lie on the timeline, its addresses, and that other people's text stays text."""

import itertools
import json
import re
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import pytz
from hypothesis import given
from hypothesis import strategies as st

from calsync.calendars.sql import SqlCalendar
from calsync.core.config import load
from calsync.core.errors import Unreachable
from calsync.core.weeks import Week
from calsync.web.pages.timeline import STEP, TimelineEvent, WorkingDay, fitted, lay_out, visible, week_span
from support import site
from support.samples import SHIPPED, ics, utc

W49 = Week(2026, 49)
NOW = utc(2026, 11, 30, 9, 25)
PAIR = {"week": "2026-W49", "primary": "conductor-eu", "backup": "conductor-us"}
MAINTENANCE = ("SUMMARY:Database maintenance", "DTSTART:20261201T193000Z", "DTEND:20261201T200000Z")
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
PAGES = ("/", "/week/2026-W49", "/plan", "/plan?primary=conductor-eu&backup=conductor-us", "/subscribe", "/week/never")
HOSTILE = '<script>alert(1)</script> & "quotes" \u202edesrever\u2066 \x07🚂 ' + "W" * 300


class Elements(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, {name: value or "" for name, value in attributes}))

    def having(self, **wanted):
        return [
            attributes
            for _, attributes in self.found
            if all(attributes.get(name) == value for name, value in wanted.items())
        ]

    def classes(self):
        return {name for _, attributes in self.found for name in attributes.get("class", "").split()}


@contextmanager
def served(calendar, now=NOW, environ=None):
    with site.served(load(SHIPPED, environ or {}), calendar, now) as client:
        yield client


@pytest.fixture
def client(calendar):
    with served(calendar) as client:
        yield client


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """A server for tests that change nothing; it starts once."""
    calendar = SqlCalendar.sqlite(tmp_path_factory.mktemp("readers") / "deployments.db")
    with served(calendar) as client:
        yield client


def put(client, calendar, *lines, href="other.ics"):
    calendar.put(href, ics(*lines, uid=href), etag=None)
    client.app.state.calsync.refresh()


def reserve(client, **more):
    assert client.post("/api/reservations", json=PAIR | more).status_code == 201


def event(start, end, title="an event"):
    return TimelineEvent("event", title, start, end)


def day_of(days, date):
    return next(day for day in days if str(day.date) == date)


# The timeline


@pytest.mark.parametrize(
    ("week", "date", "timezone", "hours"),
    [
        ("2026-W43", "2026-10-25", "Europe/Paris", 25),
        ("2026-W13", "2026-03-29", "Europe/Paris", 23),
        ("2026-W44", "2026-11-01", "America/Los_Angeles", 25),
        ("2026-W14", "2026-04-05", "Australia/Lord_Howe", 24.5),
        ("2026-W49", "2026-12-01", "Europe/Paris", 24),
        ("2026-W36", "2026-09-06", "America/Santiago", 23),
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(week, date, timezone, hours):
    day = day_of(lay_out(Week.parse(week), timezone, [], [], NOW), date)
    assert day.steps == hours * 12
    assert day.clocks_change == (hours != 24)
    assert all(0 <= step < day.steps for step, _ in day.hours)


def test_the_hour_that_comes_twice_is_named_twice_and_the_one_left_out_not_at_all():
    back = day_of(lay_out(Week(2026, 43), "Europe/Paris", [], [], NOW), "2026-10-25")
    assert [hour for _, hour in back.hours][:5] == ["00", "01", "02", "02", "03"]
    forward = day_of(lay_out(Week(2026, 13), "Europe/Paris", [], [], NOW), "2026-03-29")
    assert [hour for _, hour in forward.hours][:4] == ["00", "01", "03", "04"]


def test_a_day_that_never_was_is_left_out():
    dates = [str(day.date) for day in lay_out(Week(2011, 52), "Pacific/Apia", [], [], NOW)]
    assert "2011-12-30" not in dates
    assert len(dates) == 6


def test_an_event_lies_on_each_day_it_touches_and_says_when_it_is_there():
    days = lay_out(W49, "UTC", [event(utc(2026, 12, 1, 22), utc(2026, 12, 3, 1, 30))], [], NOW)
    assert [(str(day.date), bar.when, bar.begins) for day in days for bar in day.bars] == [
        ("2026-12-01", "22:00–24:00", True),
        ("2026-12-02", "all day", False),
        ("2026-12-03", "00:00–01:30", False),
    ]


def test_what_ends_as_the_day_begins_is_not_in_it():
    days = lay_out(W49, "UTC", [event(utc(2026, 12, 1, 22), utc(2026, 12, 2))], [], NOW)
    assert [str(day.date) for day in days if day.bars] == ["2026-12-01"]


def test_the_present_is_in_one_day_of_its_own_week_alone():
    assert [(str(day.date), day.now) for day in lay_out(W49, "UTC", [], [], NOW) if day.now is not None] == [
        ("2026-11-30", 9 * 12 + 5)
    ]
    assert all(day.now is None for day in lay_out(W49.shift(1), "UTC", [], [], NOW))
    running = lay_out(W49, "UTC", [event(NOW, NOW + timedelta(hours=1))], [], NOW)[0].bars[0]
    assert running.running


def test_a_shift_is_a_band_on_each_day_it_touches():
    shift = WorkingDay("backup", "ben", utc(2026, 12, 1, 16), utc(2026, 12, 2, 1))
    days = lay_out(W49, "UTC", [], [shift], NOW)
    assert [(band.first, band.last, band.when) for day in days for band in day.bands] == [
        (192, 288, "16:00–24:00"),
        (0, 12, "00:00–01:00"),
    ]


MINUTES = st.integers(-2 * 1440, 9 * 1440)
SPANS = st.lists(st.tuples(MINUTES, st.integers(1, 3000)), max_size=40)
ZONES = st.sampled_from(
    ["UTC", "Europe/Paris", "America/Los_Angeles", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo"]
)
WEEKS = st.sampled_from([W49, Week(2026, 43), Week(2026, 44), Week(2026, 13), Week(2026, 10)])


@given(SPANS, ZONES, WEEKS)
def test_nothing_covers_anything_and_everything_is_where_it_belongs(spans, timezone, week):
    start, end = week_span(week, timezone)
    events = [
        event(start + timedelta(minutes=at), start + timedelta(minutes=at + length), str(n))
        for n, (at, length) in enumerate(spans)
    ]
    days = lay_out(week, timezone, events, [], NOW)
    assert days[0].start == start
    assert days[-1].end == end
    assert all(day.end == following.start for day, following in itertools.pairwise(days))
    shown = [(day, bar) for day in days for bar in day.bars]
    for day, bar in shown:
        assert 0 <= bar.left <= bar.first < bar.last <= bar.right <= day.steps
        assert day.start + bar.first * STEP <= max(bar.event.start, day.start) < day.start + (bar.first + 1) * STEP
        assert day.start + (bar.last - 1) * STEP < min(bar.event.end, day.end) <= day.start + bar.last * STEP
        assert 0 <= bar.lane < day.lanes <= len(day.bars)
        for other in day.bars:
            assert other is bar or other.lane != bar.lane or other.right <= bar.left or bar.right <= other.left
    for one in events:
        touched = [day for day in days if one.start < day.end and day.start < one.end]
        assert [day for day, bar in shown if bar.event is one] == touched
    for day in days:
        assert [bar.first for bar in day.bars] == sorted(bar.first for bar in day.bars)


@given(st.text(), st.floats(0, 500))
def test_any_text_is_made_one_line_that_every_format_takes(text, width):
    line = visible(text)
    assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069]", line)
    ElementTree.fromstring(f"<t>{line.replace('&', '&amp;').replace('<', '&lt;')}</t>")
    assert len(fitted(line, width, 10)) <= max(len(line), 1)


# Its addresses


def test_a_week_has_an_address_of_its_own_with_links_to_those_beside_it(readers):
    page = Elements(readers.get("/week/2026-W49?tz=Europe/Paris").text)
    assert [link["href"] for link in page.having(rel="prev")] == ["/week/2026-W48?tz=Europe/Paris"]
    assert [link["href"] for link in page.having(rel="next")] == ["/week/2026-W50?tz=Europe/Paris"]
    assert not Elements(readers.get("/week/2037-W53").text).having(rel="next")
    assert not Elements(readers.get("/week/2000-W01").text).having(rel="prev")


@pytest.mark.parametrize(
    "url", ["/?week=2026-W49&tz=Asia/Tokyo", "/week/2026-12-02?tz=Asia/Tokyo", "/week/2026w49?tz=Asia/Tokyo"]
)
def test_other_names_of_a_week_lead_to_its_address(readers, url):
    answer = readers.get(url, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/week/2026-W49?tz=Asia%2FTokyo")


@pytest.mark.heavy
def test_the_first_page_is_the_week_to_come_or_the_one_under_way(calendar, tmp_path):
    with served(calendar) as client:
        assert "<title>2026-W49 –" in client.get("/").text
        reserve(client)
    for now, week in (
        (utc(2026, 12, 2, 12), "2026-W49"),
        (utc(2026, 12, 3, 20, 59), "2026-W49"),
        (utc(2026, 12, 3, 21), "2026-W50"),
        (utc(2026, 12, 8, 12), "2026-W51"),
    ):
        with served(SqlCalendar.sqlite(tmp_path / "deployments.db"), now) as client:
            assert f"<title>{week} –" in client.get("/").text


def test_a_browser_is_refused_on_a_page_and_a_program_with_a_problem(readers):
    page = readers.get("/week/2026-W49?tz=Europe/Pariss", headers=BROWSER)
    assert page.status_code == 422
    assert page.headers["content-type"].startswith("text/html")
    assert "did you mean" in page.text
    assert 'href="/week/2026-W49?tz=Europe%2FParis"' in page.text
    for url in ("/week/2026-W49?tz=Europe/Pariss", "/week/never", "/plan?tz=x", "/subscribe?window=lunar"):
        problem = readers.get(url)
        assert (problem.status_code, problem.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/week/2026-W49?tzz=UTC", "query/tzz: is unknown."),
        ("/plan?primry=ana", "query/primry: is unknown."),
        ("/subscribe?only=mine", "query/only: should be"),
    ],
)
def test_a_browser_that_sends_a_bad_query_gets_the_page_too(readers, url, said):
    page = readers.get(url, headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (422, "text/html; charset=utf-8")
    assert said in page.text
    answer = readers.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert said in answer.json()["detail"]


def test_from_a_page_that_refuses_one_gets_to_every_other_in_the_same_timezone(readers):
    for url, tz in (("/week/never?tz=Asia/Tokyo", "Asia/Tokyo"), ("/week/2026-W49?tz=Europe/Pariss", "UTC")):
        page = Elements(readers.get(url, headers=BROWSER).text)
        links = [link["href"] for tag, link in page.found if tag == "a"]
        assert {f"/?tz={tz}", f"/plan?tz={tz}", f"/subscribe?tz={tz}", "/docs"} <= set(links)
        assert page.having(rel="icon")


def test_who_looks_for_an_icon_finds_one(readers):
    answer = readers.get("/favicon.ico")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.content == readers.get("/static/icon.svg").content
    assert Elements(readers.get("/docs").text).having(rel="icon", href="/static/icon.svg")


def test_the_timezones_to_choose_from_can_be_kept(readers):
    answer = readers.get("/zones.json")
    assert answer.json() == list(pytz.common_timezones)
    assert "max-age" in answer.headers["cache-control"]


# What it shows


def test_every_place_on_the_timeline_is_in_the_style_sheet(client, calendar):
    reserve(client)
    for n in range(40):
        start = utc(2026, 12, 2, 8) + timedelta(minutes=10 * n)
        calendar.put(
            f"{n}.ics", ics(f"SUMMARY:{n}", f"DTSTART:{start:%Y%m%dT%H%M%SZ}", "DURATION:PT5H", uid=str(n)), etag=None
        )
    client.app.state.calsync.refresh()
    known = set(re.findall(r"\.([a-z]\d+)\{", client.get("/grid.css").text))
    for url in ("/week/2026-W49", "/week/2026-W43?tz=Europe/Paris", "/plan?primary=conductor-eu&backup=conductor-us"):
        used = {name for name in Elements(client.get(url).text).classes() if re.fullmatch(r"[a-z]\d+", name)}
        assert used
        assert used <= known


def test_a_reserved_slot_shows_its_stage_version_and_who_sits_there(client):
    reserve(client, train="1.46.0-wmf.5", ticket="T400001")
    text = client.get("/week/2026-W49?tz=Europe/Paris").text
    slot = re.search(r'<li class="bar slot backup.*?id="2026-12-01-american">.*?</div>', text, re.DOTALL)[0]
    for words in (
        "group0 · 1.46.0-wmf.5",
        "20:00–22:00",
        "conductor-us · secondary",
        "Ticket T400001",
        "American train window",
    ):
        assert words in slot
    assert "conductor-eu</bdi> works 09:00–18:00" in text
    assert "conductor-us</bdi> works 17:00–24:00" in text


def test_a_week_nobody_holds_shows_its_train_windows_as_free(client):
    text = client.get("/week/2026-W49").text
    assert text.count("bar open") == 6
    reserve(client, backup={"name": "ana", "timezone": "Europe/Rome"})
    text = client.get("/week/2026-W49").text
    assert (text.count("bar open"), text.count("not used by this train")) == (3, 3)
    assert client.get("/week/2026-W52").text.count("bar open") == 0


def test_a_week_whose_reservation_cannot_be_read_is_not_called_free(client, calendar):
    put(client, calendar, *MAINTENANCE, href="train-2026-W49.ics")
    text = client.get("/week/2026-W49").text
    assert "has a reservation that cannot be read" in text
    assert "Nobody has reserved" not in text
    assert "a pair that cannot be read" in client.get("/plan?primary=conductor-eu&backup=conductor-us&week=2026-W49").text


def test_a_conflict_is_on_its_slot_and_above_the_week(client, calendar):
    reserve(client)
    put(client, calendar, *MAINTENANCE)
    text = client.get("/week/2026-W49").text
    assert "1 conflict</h2>" in text
    assert '<a href="#2026-12-01-american"><bdi>“Database maintenance”' in text
    assert re.search(r'<li class="bar slot backup conflict [^>]*id="2026-12-01-american"', text)


def test_what_only_warns_is_told_from_what_blocks(client):
    reserve(client, backup={"name": "kei", "timezone": "Asia/Tokyo"})
    text = client.get("/week/2026-W49").text
    assert "3 warnings</h2>" in text
    assert 'class="conflicts warned"' in text
    assert len(re.findall(r'<li class="bar slot primary warned ', text)) == 3
    assert "outside 09:00-18:00 Asia/Tokyo" in text


def test_a_released_slot_is_shown_as_given_up_and_its_window_as_free_again(client):
    reserve(client)
    assert client.delete("/api/reservations/2026-W49").status_code == 200
    text = client.get("/week/2026-W49").text
    assert "Nobody has reserved this week" in text
    assert (text.count("bar cancelled"), text.count("bar open")) == (6, 6)


def test_the_header_says_what_runs_who_is_responsible_and_who_is_at_work(calendar, tmp_path):
    with served(calendar) as client:
        reserve(client, train="1.46.0-wmf.5")
    with served(SqlCalendar.sqlite(tmp_path / "deployments.db"), utc(2026, 12, 1, 10)) as client:
        said = re.search(r'<section id="now".*?</section>', client.get("/?tz=Europe/Paris").text, re.DOTALL)[0]
        words = " ".join(re.sub(r"<[^>]+>", " ", said).split())
    assert "Now MediaWiki train 1.46.0-wmf.5 – group0 – conductor-eu until 12:00, responsible: conductor-eu" in words
    assert "Next Backport window (morning) Tue 15:00" in words
    assert "Primary of 2026-W49 conductor-eu at work until Tue 18:00 in Europe/Paris" in words
    assert "Backup of 2026-W49 conductor-us not at work until Tue 09:00 in America/Denver" in words


def test_whom_to_ask_first_is_said_with_their_week_on_the_page_of_any_week(client):
    reserve(client)
    text = client.get("/week/2026-W50").text
    card = re.search(r'<section class="card" aria-labelledby="reach">.*?</section>', text, re.DOTALL)[0]
    assert "Who conducts 2026-W49, as things are now." in re.sub(r"<[^>]+>", "", card)


def test_the_page_outlives_the_calendar(client):
    state = client.app.state.calsync

    def away(*_arguments):
        raise Unreachable("It is away.")

    state.sync.calendar.changes = away
    state.refresh()
    for url in PAGES[:-1]:
        assert "The calendar is away" in client.get(url).text


@pytest.mark.parametrize("url", PAGES)
def test_no_page_has_script_or_style_within_it(readers, url):
    answer = readers.get(url, headers=BROWSER)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", answer.text)
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_other_peoples_text_stays_text_everywhere(client, calendar):
    put(client, calendar, f"SUMMARY:{HOSTILE}", *MAINTENANCE[1:])
    plain = {url: client.get(url).text for url in ("/week/2026-W49", "/plan?primary=conductor-eu&backup=conductor-us")}
    reserve(
        client,
        train="<i>1.46</i>",
        ticket='"><b>T1',
        backup={"name": "<b>ben", "timezone": "America/Chicago"},
        override="x",
    )
    plain["held"] = client.get("/week/2026-W49").text
    for text in plain.values():
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "W" * 300 in text
        assert {tag for tag, _ in Elements(text).found}.isdisjoint({"b", "i"})
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x07]", text)
        assert [attributes for tag, attributes in Elements(text).found if tag == "script"] == [
            {"type": "module", "src": "/static/page.js"}
        ]


# The picture


def picture(client, url="/week/2026-W49.svg"):
    answer = client.get(url)
    assert answer.headers["content-type"].startswith("image/svg+xml")
    return ElementTree.fromstring(answer.text)


def test_the_picture_has_a_title_and_a_description_and_needs_no_style_sheet(client):
    reserve(client, train="1.46.0-wmf.5")
    drawn = picture(client)
    name = "{http://www.w3.org/2000/svg}"
    assert drawn[0].tag == f"{name}title"
    assert drawn[0].text == "Deployments: 2026-W49, times in UTC"
    assert drawn[1].tag == f"{name}desc"
    assert "conductor-eu (primary, european)" in drawn[1].text
    assert "group0 · 1.46.0-wmf.5, conductor-eu · primary" in drawn[1].text
    assert {element.tag.removeprefix(name) for element in drawn.iter()}.isdisjoint({"style", "script", "foreignObject"})
    assert not [element for element in drawn.iter() if "style" in element.attrib or "href" in element.attrib]


def test_the_picture_shows_what_the_page_shows(client, calendar):
    reserve(client)
    put(client, calendar, *MAINTENANCE)
    for query in ("", "?tz=America/Los_Angeles"):
        page, drawn = client.get(f"/week/2026-W49{query}").text, picture(client, f"/week/2026-W49.svg{query}")
        titles = re.findall(r'tabindex="0">\s*<strong><bdi>([^<]*)</bdi>', page)
        texts = [text.text.removeprefix("⚠ ") for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
        for title in titles:
            assert title in texts or any(text.endswith("…") and title.startswith(text[:-1]) for text in texts), title
        assert any(text.text.startswith("⚠ ") for text in drawn.iter("{http://www.w3.org/2000/svg}text"))


def test_the_picture_takes_other_peoples_text_as_text(client, calendar):
    put(client, calendar, f"SUMMARY:{HOSTILE}", *MAINTENANCE[1:])
    drawn = picture(client)
    assert "<script>alert(1)</script>" in drawn[1].text
    assert not list(drawn.iter("{http://www.w3.org/2000/svg}script"))
    longest = max(drawn.iter("{http://www.w3.org/2000/svg}text"), key=lambda text: len(text.text))
    assert len(longest.text) < 80


# Planning a pair


def test_a_plan_shows_who_sits_where_and_why_and_writes_nothing(readers):
    text = readers.get("/plan?primary=conductor-eu&backup=ben@America/Denver&week=2026-W49&tz=Asia/Tokyo").text
    words = " ".join(re.sub(r"<[^>]+>", "", text).split())
    assert "2026-W49: free, both windows would be reserved" in words
    assert "conductor-eu primary sits in european: 10:00–12:00 lies in 09:00-18:00 Europe/Paris" in words
    assert "ben backup sits in american: 12:00–14:00 lies in 09:00-18:00 America/Denver" in words
    assert text.count("bar planned") == 6
    assert re.findall(r'<td class="clock">([^<]*)</td>', text)[:3] == ["18:00–20:00", "10:00–12:00", "02:00–04:00"]
    assert "ben</bdi> works 01:00–10:00" in text
    body = json.loads(Elements(text).having(id="reserve")[0]["data-body"])
    assert body == {
        "week": "2026-W49",
        "primary": {"name": "conductor-eu", "timezone": "Europe/Paris", "hours": "09:00-18:00"},
        "backup": {"name": "ben", "timezone": "America/Denver", "hours": "09:00-18:00"},
    }
    assert readers.get("/api/reservations").json() == []


def test_a_plan_of_two_timezones_needs_no_names(readers):
    text = readers.get("/plan?primary=Europe/Paris&backup=Asia/Tokyo&week=2026-W49").text
    assert json.loads(Elements(text).having(id="reserve")[0]["data-body"])["primary"] == {
        "timezone": "Europe/Paris",
        "hours": "09:00-18:00",
    }
    assert "one window would be reserved" in text
    assert text.count("bar open") == 3


def test_a_plan_says_what_conflicts_and_what_is_free_instead(client, calendar):
    put(client, calendar, *MAINTENANCE)
    asked = client.post("/api/conflicts", json=PAIR).json()
    text = client.get("/plan?primary=conductor-eu&backup=conductor-us&week=2026-W49&tz=America/Los_Angeles").text
    assert "1 conflict blocks the reservation" in text
    assert [one["message"] for one in asked["conflicts"]] == re.findall(
        r'<li class="blocking"><strong>overlap</strong> <bdi>([^<]*)</bdi>', text
    )
    assert len(re.findall(r"<li>[^<]*instead of 2026-12-01-american</li>", text)) == len(asked["alternatives"]) > 0
    assert "bar planned backup conflict" in text
    assert "bar free" in text


def test_a_plan_of_a_held_week_names_its_pair_and_offers_nothing(client):
    reserve(client)
    others = client.get("/plan?primary=Europe/Berlin&backup=America/Chicago&week=2026-W49").text
    assert "<bdi>conductor-eu</bdi> and <bdi>conductor-us</bdi>" in others
    assert 'id="reserve"' not in others
    assert (
        "already reserved for this pair" in client.get("/plan?primary=conductor-eu&backup=conductor-us&week=2026-W49").text
    )


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("primary=Europe/Pariss&backup=conductor-us", "did you mean the timezone &#34;Europe/Paris&#34;"),
        ("primary=nobody-known&backup=conductor-us", "is not in the roster"),
        ("primary=conductor-eu", "Name two people"),
        ("primary=conductor-eu&backup=conductor-eu", "name two people"),
        ("primary=conductor-eu&backup=conductor-us&week=2026-W52", "end-of-year holidays"),
        ("primary=conductor-eu&backup=conductor-us&week=2026-W40", "is over"),
        ("primary=conductor-eu&backup=conductor-us&week=soon", "is not a week"),
        ("primary=%3Cb%3E&backup=%00", "&lt;b&gt;"),
    ],
)
def test_a_plan_that_makes_no_sense_says_so_beside_the_form(readers, query, words):
    answer = readers.get(f"/plan?{query}", headers=BROWSER)
    assert answer.status_code == 422
    assert words in re.search(r'<p class="warning" id="refusal">.*?</p>', answer.text)[0]
    assert 'id="plan"' in answer.text


def test_the_form_offers_the_weeks_that_have_a_train_and_keeps_what_was_chosen(readers):
    page = Elements(
        readers.get("/plan?primary=conductor-eu&backup=ben@America/Denver&week=2026-W50&train=1.2&ticket=T1").text
    )
    weeks = {option["value"]: option for tag, option in page.found if tag == "option" and "-W" in option.get("value", "")}
    assert next(iter(weeks)) == "2026-W49"
    assert "selected" in weeks["2026-W50"]
    assert "disabled" in weeks["2026-W52"]
    for name, value in (("primary", "conductor-eu"), ("backup", "ben@America/Denver"), ("train", "1.2"), ("ticket", "T1")):
        assert page.having(id=name)[0]["value"] == value


def test_of_a_week_that_is_held_it_is_said_that_it_is_not_that_it_would_be_reserved(client):
    reserve(client)
    theirs = client.get("/plan?primary=conductor-eu&backup=conductor-us&week=2026-W49").text
    assert "would be reserved" not in theirs
    assert (theirs.count("bar planned"), theirs.count("bar slot")) == (0, 6)
    assert "<caption>Reserved for this pair</caption>" in theirs
    others = client.get("/plan?primary=ana@Europe/Paris&backup=conductor-us&week=2026-W49").text
    assert "would be reserved" not in others
    assert others.count("· the week is reserved</bdi>") == 6
    assert "<caption>Slots of this pair if the week were free</caption>" in others


def test_a_token_is_asked_for_only_where_there_is_one(calendar, readers):
    query = "/plan?primary=conductor-eu&backup=conductor-us"
    assert not Elements(readers.get(query).text).having(id="token")
    with served(calendar, environ={"CALSYNC_TOKENS": "bot:correct-horse-battery"}) as client:
        asked = Elements(client.get(query).text).having(id="token")
    assert asked[0]["type"] == "password"
    assert "value" not in asked[0]


# Subscribing


def test_the_address_of_the_feed_follows_the_choices(readers):
    url = "/subscribe?only=reservations&window=european&window=american&conductor=conductor-eu&alarm=15m&tz=Asia/Tokyo"
    page = Elements(readers.get(url).text)
    feed = page.having(id="feed")[0]["value"]
    assert urlsplit(feed)._replace(query="").geturl() == "http://localhost/deployments.ics"
    assert parse_qs(urlsplit(feed).query) == {
        "window": ["european", "american"],
        "conductor": ["conductor-eu"],
        "only": ["reservations"],
        "alarm": ["15m"],
    }
    assert readers.get(feed).status_code == 200
    links = {name: page.having(id=f"add-{name}")[0]["href"] for name in ("webcal", "google", "outlook", "office")}
    webcal = feed.replace("http:", "webcal:")
    assert links["webcal"] == webcal
    assert links["google"].startswith("https://calendar.google.com/calendar/r?")
    assert parse_qs(urlsplit(links["google"]).query) == {"cid": [webcal]}
    for name, host in (("outlook", "outlook.live.com"), ("office", "outlook.office.com")):
        assert links[name].startswith(f"https://{host}/calendar/0/addfromweb?")
        assert parse_qs(urlsplit(links[name]).query) == {"url": [feed], "name": ["Deployments"]}
    assert {box["value"] for box in page.having(name="window") if "checked" in box} == {"european", "american"}


def test_fields_left_empty_narrow_nothing(readers):
    page = Elements(readers.get("/subscribe?tz=UTC&only=&conductor=&alarm=").text)
    assert page.having(id="feed")[0]["value"] == "http://localhost/deployments.ics"


def test_a_filter_that_is_not_one_is_refused(readers):
    for query in ("window=lunar", "alarm=soon", "color=red"):
        assert readers.get(f"/subscribe?{query}").status_code == 422
