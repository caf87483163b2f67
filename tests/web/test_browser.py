"""The page as people meet it: a real Chromium before a running `calsync serve`.

Chromium is Debian's (`scripts/test --all` installs it); CHROMIUM names another.
"""

import os
import re
import shutil
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from icalendar import Calendar
from playwright.sync_api import expect, sync_playwright

from calsync.calendars.sql import SqlCalendar
from support.processes import Server, until
from support.samples import SHIPPED, ics

pytestmark = pytest.mark.heavy

TOKEN = "correct-horse-battery"
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
EUROPE, AMERICA = ZoneInfo("Europe/Paris"), ZoneInfo("America/Los_Angeles")


class Site(Server):
    """A `calsync serve` process in `folder`, with the shipped windows and no holidays; it answers once this returns."""

    def __init__(self, folder, *, tokens=""):
        self.folder = folder
        settings = SHIPPED.read_text(encoding="utf-8")
        settings = re.sub(r"no_train = \[.*?\]\n", "", settings, flags=re.DOTALL)
        settings = re.sub(r"\[\[freezes\]\]\nstart = .*?\n\n", "", settings, flags=re.DOTALL)
        (folder / "windows.toml").write_text(settings, encoding="utf-8")
        super().__init__(folder, CALSYNC_TOKENS=tokens)
        self._weeks = iter(range(1, 30))

    def week(self):
        """A week to come that no other test uses or looks at, and its Monday."""
        while True:
            monday = date.today() + timedelta(days=7 - date.today().weekday(), weeks=next(self._weeks))
            if abs(monday - october()) > timedelta(days=8):
                return f"{monday:%G-W%V}", monday

    def put(self, *events):
        """Somebody else puts events on the calendar, and the server takes them in."""
        calendar = SqlCalendar.sqlite(self.folder / "deployments.db")
        for name, lines in events:
            calendar.put(f"{name}.ics", ics(*lines, uid=name), etag=None)
        calendar.close()

        def published():
            feed = self.client.get("/deployments.ics").text
            return all(f"UID:{name}" in feed for name, _ in events)

        until(published, "the events are published")


def october():
    """The Sunday of the coming October (or of this one) on which Europe sets its clocks back."""
    for year in (date.today().year, date.today().year + 1):
        last = date(year, 10, 31)
        last -= timedelta(days=(last.weekday() + 1) % 7)
        if last - timedelta(days=7) > date.today():
            return last
    raise AssertionError


def event(summary, start, length="PT1H"):
    """The lines of an event whose start is aware."""
    return (f"SUMMARY:{summary}", f"DTSTART:{start.astimezone(UTC):%Y%m%dT%H%M%SZ}", f"DURATION:{length}")


def at(day, hour, minute=0, tz=UTC):
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=tz)


@pytest.fixture(scope="module")
def chromium():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert shutil.which(path or ""), "Chromium is missing; scripts/test --all installs it, or name one with CHROMIUM=/path."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that wants a token for writing."""
    site = Site(tmp_path_factory.mktemp("guarded"), tokens=f"release-bot:{TOKEN}")
    yield site
    site.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server on loopback without tokens."""
    site = Site(tmp_path_factory.mktemp("open"))
    yield site
    site.close()


@pytest.fixture
def open_page(chromium):
    """Opens pages; at the end of the test, none of them may have met an error or a violation of our own policy."""
    contexts, complaints = [], []

    def new(url, *, width=1440, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
        page.goto(url)
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def plan(page, primary, backup, week):
    page.get_by_label("Primary", exact=True).fill(primary)
    page.get_by_label("Backup", exact=True).fill(backup)
    page.get_by_label("Week", exact=True).select_option(week)


def bar(page, slot):
    return page.locator(f'[id="{slot}"]')


# Planning and reserving


def test_a_spanning_pair_is_planned_and_reserved_by_clicking(guarded, open_page):
    week, monday = guarded.week()
    tuesday = monday + timedelta(days=1)
    page = open_page(f"{guarded.url}/")
    page.get_by_role("link", name="Plan a pair").first.click()
    plan(page, "conductor-eu", "ben@America/Denver", week)
    page.get_by_label("Version").fill("1.46.0-wmf.9")
    page.get_by_label("Ticket").fill("T400009")
    result = page.locator("#plan-result")
    expect(result).to_contain_text(f"{week}: free, both windows would be reserved")
    expect(result).to_contain_text("10:00–12:00 lies in 09:00-18:00 Europe/Paris")
    expect(result.locator(".bar.planned")).to_have_count(6)
    assert guarded.client.get(f"/api/reservations/{week}").status_code == 404
    page.get_by_label("Your token").fill(TOKEN)
    page.get_by_role("button", name=f"Reserve {week}").click()
    expect(page.locator("#reserved")).to_contain_text(f"{week} is reserved, with 6 slots.")
    page.get_by_role("link", name="See the week").click()
    slot = bar(page, f"{tuesday}-american")
    expect(slot).to_contain_text("group0 · 1.46.0-wmf.9")
    expect(slot).to_contain_text("ben · secondary")
    expect(page.locator(".bar.slot")).to_have_count(6)
    feed = Calendar.from_ical(guarded.client.get("/deployments.ics?only=reservations").content)
    assert {f"{tuesday}-european@calsync", f"{tuesday}-american@calsync"} <= {str(found["UID"]) for found in feed.events}
    standing = guarded.client.get(f"/api/reservations/{week}").json()
    assert (standing["ticket"], standing["backup"]["name"]) == ("T400009", "ben")


def test_the_token_is_kept_for_the_tab_alone_and_a_wrong_one_is_refused_in_words(guarded, open_page):
    week, _ = guarded.week()
    url = f"{guarded.url}/plan?primary=conductor-eu&backup=conductor-us&week={week}"
    page = open_page(url)
    page.get_by_label("Your token").fill("not-the-token")
    page.get_by_role("button", name=f"Reserve {week}").click()
    expect(page.locator("#reserved")).to_contain_text("Unknown token; ask whoever runs calsync for one.")
    page.reload()
    expect(page.get_by_label("Your token")).to_have_value("")
    page.get_by_label("Your token").fill(TOKEN)
    page.get_by_role("button", name=f"Reserve {week}").click()
    expect(page.locator("#reserved")).to_contain_text("is reserved")
    page.goto(url.replace(week, guarded.week()[0]))
    expect(page.get_by_label("Your token")).to_have_value(TOKEN)
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_label("Your token")).to_have_value("")


def test_a_conflict_is_shown_before_and_refused_in_words(site, open_page):
    week, monday = site.week()
    tuesday = monday + timedelta(days=1)
    page = open_page(f"{site.url}/plan?primary=conductor-eu&backup=conductor-us&week={week}")
    expect(page.locator("#plan-heading")).to_contain_text("free")
    site.put((f"maintenance-{week}", event("Database maintenance", at(tuesday, 11, 30, EUROPE))))
    # The page is a moment old, as pages are: the refusal comes from the server.
    page.get_by_role("button", name=f"Reserve {week}").click()
    said = page.locator("#reserved")
    expect(said).to_contain_text(f"A conflict blocks {week}: “Database maintenance”")
    assert site.client.get(f"/api/reservations/{week}").status_code == 404
    page.reload()
    expect(page.locator("#plan-heading")).to_contain_text("1 conflict blocks the reservation")
    expect(page.locator("#plan-result ul.conflicts")).to_contain_text("“Database maintenance”")
    expect(page.locator("#plan-result ul.alternatives li")).not_to_have_count(0)
    page.get_by_label("Reserve despite the conflicts, because").fill("the maintenance waits for us")
    page.get_by_role("button", name=f"Reserve {week}").click()
    expect(said).to_contain_text(f"{week} is reserved")
    assert site.client.get(f"/api/reservations/{week}").json()["override"] == "the maintenance waits for us"


def test_a_week_that_somebody_took_meanwhile_is_refused_in_words(site, open_page):
    week, _ = site.week()
    page = open_page(f"{site.url}/plan?primary=Europe/Berlin&backup=America/Chicago&week={week}")
    body = {"week": week, "primary": "conductor-eu", "backup": "conductor-us"}
    assert site.client.post("/api/reservations", json=body).status_code == 201
    page.get_by_role("button", name=f"Reserve {week}").click()
    expect(page.locator("#reserved")).to_contain_text(f"{week} is reserved for conductor-eu and conductor-us already.")


def test_the_plan_follows_the_form_at_once_and_says_what_is_wrong(site, open_page):
    week, _ = site.week()
    page = open_page(f"{site.url}/")
    plan(page, "Europe/Paris", "Asia/Tokyo", week)
    result = page.locator("#plan-result")
    expect(result).to_contain_text("The pair shares a window.")
    page.get_by_label("Backup", exact=True).fill("Asia/Tokio")
    expect(result).to_contain_text("did you mean the timezone")
    page.get_by_label("Backup", exact=True).fill("America/Denver")
    expect(result).to_contain_text("The pair spans regions")
    expect(page.locator("#plan-news")).to_have_text(f"{week}: free, both windows would be reserved")
    assert len(page.locator("[id]").evaluate_all("all => all.map(one => one.id)")) == len(
        set(page.locator("[id]").evaluate_all("all => all.map(one => one.id)"))
    )
    expect(page.locator("#people option[value='Africa/Abidjan']")).to_have_count(1)


# The week


def test_the_timezone_is_switched_across_the_october_clock_change(site, open_page):
    """Between the two clock changes Europe is an hour nearer to America."""
    sunday = october()
    week = f"{sunday:%G-W%V}"
    page = open_page(f"{site.url}/week/{week}?tz=Europe/Paris")

    def hours(day):
        return page.locator(f'[id="day-{day}"] .bar.open .when').all_inner_texts()

    def expected(day, tz):
        windows = [(at(day, 10, tz=EUROPE), at(day, 12, tz=EUROPE)), (at(day, 11, tz=AMERICA), at(day, 13, tz=AMERICA))]
        return [f"{start.astimezone(tz):%H:%M}–{end.astimezone(tz):%H:%M}" for start, end in windows]

    before, after = sunday - timedelta(days=5), sunday + timedelta(days=2)
    expect(page.locator(f'[id="day-{sunday}"]')).to_contain_text("25 hours")
    names = page.locator(f'[id="day-{sunday}"] .axis span').all_inner_texts()
    assert names[:5] == ["00", "01", "02", "02", "03"]
    assert hours(before) == expected(before, EUROPE) == ["10:00–12:00", "20:00–22:00"]
    page.get_by_role("link", name=f"{after:%G-W%V}").click()
    page.wait_for_url(re.compile(f"{after:%G-W%V}"))
    assert "tz=Europe" in page.url
    assert hours(after) == expected(after, EUROPE) == ["10:00–12:00", "19:00–21:00"]
    page.get_by_role("link", name="Los Angeles", exact=True).click()
    page.wait_for_url(re.compile("Los_Angeles"))
    assert hours(after) == expected(after, AMERICA) == ["02:00–04:00", "11:00–13:00"]
    page.get_by_label("or", exact=True).fill("Asia/Kathmandu")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url(re.compile("Kathmandu"))
    assert hours(after)[0] == expected(after, ZoneInfo("Asia/Kathmandu"))[0] == "14:45–16:45"


def test_a_bar_lies_under_its_hours(site, open_page):
    week, monday = site.week()
    page = open_page(f"{site.url}/week/{week}?tz=Europe/Paris")
    day = f'[id="day-{monday + timedelta(days=1)}"]'
    track = page.locator(f"{day} .track").bounding_box()
    box = page.locator(f"{day} .bar.open .box").first.bounding_box()
    hour = track["width"] / 24
    assert box["x"] - track["x"] == pytest.approx(10 * hour, abs=2)
    assert box["width"] == pytest.approx(2 * hour, abs=2)
    ten = page.locator(".timeline > .axis span", has_text="10").bounding_box()
    assert ten["x"] == pytest.approx(box["x"], abs=2)


def test_forty_overlapping_events_are_stacked_and_none_is_hidden(site, open_page):
    week, monday = site.week()
    start = at(monday + timedelta(days=2), 8)
    site.put(*((f"stack-{n}", event(f"Rollout {n}", start + timedelta(minutes=5 * n), "PT5H")) for n in range(40)))
    for width in (1440, 390):
        page = open_page(f"{site.url}/week/{week}", width=width)
        boxes = page.locator(".bar.event").evaluate_all("all => all.map(one => one.getBoundingClientRect().toJSON())")
        assert len(boxes) == 40
        for n, one in enumerate(boxes):
            for other in boxes[n + 1 :]:
                apart = one["right"] <= other["left"] + 1 or other["right"] <= one["left"] + 1
                assert apart or one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_conflict_says_why_on_hover_and_on_focus_and_on_a_phone_at_once(site, open_page):
    week, monday = site.week()
    tuesday = monday + timedelta(days=1)
    body = {"week": week, "primary": "conductor-eu", "backup": "conductor-us"}
    assert site.client.post("/api/reservations", json=body).status_code == 201
    site.put((f"late-{week}", event("Late maintenance", at(tuesday, 11, tz=EUROPE))))
    page = open_page(f"{site.url}/week/{week}")
    slot = bar(page, f"{tuesday}-european")
    why = slot.locator(".why")

    def shown():
        return why.bounding_box()["height"] > 20

    expect(slot).to_have_class(re.compile("conflict"))
    assert not shown()
    slot.locator(".text").hover()
    assert shown()
    page.keyboard.press("Escape")
    until(lambda: not shown(), "it is hidden")
    page.mouse.move(5, 5)
    slot.locator(".text").focus()
    assert shown()
    page.keyboard.press("Escape")
    until(lambda: not shown(), "it is hidden")
    site.put((f"noon-{week}", event("Noon maintenance", at(tuesday, 12, tz=AMERICA))))
    page.reload()
    late = bar(page, f"{tuesday}-american").locator(".text")
    late.hover()
    card = late.bounding_box()
    assert card["height"] > 60
    assert card["x"] + card["width"] <= 1440
    assert page.locator("section.conflicts").get_by_role("link").first.get_attribute("href") == f"#{tuesday}-european"
    phone = open_page(f"{site.url}/week/{week}", width=390, has_touch=True, is_mobile=True)
    assert bar(phone, f"{tuesday}-european").locator(".why").bounding_box()["height"] > 20


def test_other_peoples_text_neither_runs_nor_breaks_the_layout(site, open_page):
    week, monday = site.week()
    hostile = [
        "<img src=x onerror=document.title='run'><script>document.title='run'</script>",
        "\u202egnp.exe reversed\u202d <b>bold</b>",
        "W" * 300,
        "🚂🎉👩‍👩‍👧‍👦" * 40,
    ]
    start = at(monday + timedelta(days=2), 3)
    site.put(*((f"hostile-{n}", event(text, start + timedelta(hours=n))) for n, text in enumerate(hostile)))
    for width in (390, 1440):
        page = open_page(f"{site.url}/week/{week}", width=width)
        expect(page.locator(".bar.event")).to_have_count(4)
        assert page.title().startswith(week)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".bar img, .bar script, .bar b").count() == 0
        whole = page.locator(".timeline").bounding_box()
        for one in page.locator(".bar.event").all():
            box = one.bounding_box()
            assert whole["x"] <= box["x"]
            assert box["x"] + box["width"] <= whole["x"] + whole["width"] + 1
            assert box["height"] < 130
    page.goto(f"{site.url}/week/{week}.svg")
    assert page.evaluate("document.documentElement.tagName") == "svg"
    assert page.evaluate("document.querySelectorAll('script, img, b').length") == 0


def test_news_comes_in_quietly_and_leaves_alone_what_somebody_looks_at(site, open_page):
    week, monday = site.week()
    page = open_page("about:blank")
    page.clock.install()
    page.goto(f"{site.url}/week/{week}")
    expect(page.locator("#reservation")).to_contain_text("Nobody has reserved this week")
    page.get_by_label("Primary", exact=True).fill("half-writt")
    body = {"week": week, "primary": "conductor-eu", "backup": "conductor-us"}
    assert site.client.post("/api/reservations", json=body).status_code == 201
    page.clock.run_for(61_000)
    expect(page.locator("#reservation")).to_contain_text("conductor-eu")
    expect(page.locator(".bar.slot")).to_have_count(6)
    expect(page.get_by_label("Primary", exact=True)).to_have_value("half-writt")
    slot = bar(page, f"{monday + timedelta(days=1)}-european").locator(".text")
    slot.focus()
    assert site.client.delete(f"/api/reservations/{week}").status_code == 200
    page.clock.run_for(61_000)
    expect(page.locator("#reservation")).to_contain_text("Nobody has reserved this week")
    expect(slot).to_be_focused()
    now = page.locator("#now")
    assert (now.get_attribute("aria-live"), now.get_attribute("aria-atomic")) == ("polite", "true")


# By keyboard, and by ear


def test_everything_is_done_with_the_keyboard_alone(site, open_page):
    week, monday = site.week()
    page = open_page(f"{site.url}/week/{week}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile(f"{monday + timedelta(weeks=1):%G-W%V}"))
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile(week))

    def tab_to(locator, *, most=90):
        for _ in range(most):
            page.keyboard.press("Tab")
            if locator.evaluate("one => one === document.activeElement"):
                return
        raise AssertionError("the Tab key does not lead there")

    tab_to(page.locator(".bar .text").first)
    assert page.locator(".bar .text").first.evaluate("one => getComputedStyle(one).outlineStyle") != "none"
    primary = page.get_by_label("Primary", exact=True)
    tab_to(primary)
    page.keyboard.type("conductor-eu")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(week))
    page.keyboard.press("Tab")
    page.keyboard.type("conductor-us")
    expect(page.locator("#plan-heading")).to_contain_text(f"{week}: free")
    tab_to(page.get_by_role("button", name=f"Reserve {week}"))
    page.keyboard.press("Enter")
    expect(page.locator("#reserved")).to_contain_text(f"{week} is reserved")
    expect(page.locator("#week .bar.slot")).to_have_count(6)
    tab_to(page.get_by_label("reserved slots only").or_(page.get_by_label("everything")).first)
    page.keyboard.press("ArrowDown")
    expect(page.locator("#feed")).to_have_value(re.compile(r"\?only=reservations$"))


@pytest.mark.parametrize(
    "path",
    [
        "/week/{week}",
        "/plan?primary=conductor-eu&backup=ana@America/Chicago&week={free}",
        "/plan?primary=Europe/Berlin&backup=America/Chicago&week={week}",
        "/plan?primary=Europe/Paris&backup=Asia/Tokyo&week={free}",
        "/plan?primary=nobody&backup=conductor-us",
        "/subscribe?only=reservations",
        "/week/never",
    ],
)
def test_axe_finds_no_violation_in_light_or_dark_at_390_or_1440_pixels(crowded, open_page, path):
    site, week = crowded
    page = open_page(site.url + path.format(week=week, free=site.free))
    for scheme in ("light", "dark"):
        for width in (390, 1440):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            found = Axe().run(page, options={"resultTypes": ["violations"]})
            assert found.violations_count == 0, f"{scheme}, {width}: {found.generate_report()}"


@pytest.fixture(scope="module")
def crowded(site):
    """A reserved week with everything that a week can have, and beside it one with a conflict that nobody holds."""
    week, monday = site.week()
    body = {"week": week, "primary": "conductor-eu", "backup": "conductor-us", "train": "1.46.0-wmf.5", "ticket": "T1"}
    assert site.client.post("/api/reservations", json=body).status_code == 201
    tuesday = str(monday + timedelta(days=1))
    away = {"conductor": "conductor-us", "start": tuesday, "end": tuesday, "note": "conference"}
    assert site.client.post("/api/away", json=away).status_code == 201
    site.free, later = site.week()
    site.put(
        (f"crowd-{week}", event("Database maintenance", at(monday + timedelta(days=1), 11, tz=EUROPE))),
        (f"night-{week}", event("Late night deploy", at(monday + timedelta(days=1), 23), "PT5H")),
        (f"crowd-{site.free}", event("Network maintenance", at(later + timedelta(days=1), 11, tz=EUROPE))),
    )
    return site, week


def test_the_page_can_be_read_and_used_without_javascript(crowded, open_page):
    site, week = crowded
    page = open_page(f"{site.url}/week/{week}", java_script_enabled=False)
    expect(page.locator(".bar.slot")).to_have_count(6)
    page.get_by_label("Primary", exact=True).fill("conductor-eu")
    page.get_by_label("Backup", exact=True).fill("ana@America/Chicago")
    page.get_by_label("Week", exact=True).select_option(site.free)
    page.get_by_role("button", name="Plan", exact=True).click()
    expect(page.locator("#plan-heading")).to_contain_text("1 conflict blocks the reservation")
    assert (
        f"<code>calsync reserve conductor-eu ana@America/Chicago --week {site.free}</code></p></noscript>" in page.content()
    )
    page.get_by_role("link", name="Subscribe").click()
    page.get_by_label("reserved slots only").check()
    page.get_by_role("button", name="Show the address").click()
    expect(page.locator("#feed")).to_have_value(f"{site.url}/deployments.ics?only=reservations")


# Subscribing


def test_the_address_follows_the_choices_and_can_be_copied(site, open_page):
    page = open_page(f"{site.url}/subscribe", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("American train window").check()
    page.get_by_label("Only the slots of").fill("conductor-us")
    page.get_by_label("Remind me").select_option("15m")
    feed = f"{site.url}/deployments.ics?window=american&conductor=conductor-us&alarm=15m"
    expect(page.locator("#feed")).to_have_value(feed)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == feed
    assert page.locator("#add-webcal").get_attribute("href") == feed.replace("http:", "webcal:")
    links = [page.locator(f"#add-{name}").get_attribute("href") for name in ("webcal", "google", "outlook", "office")]
    page.goto(f"{site.url}/subscribe?window=american&conductor=conductor-us&alarm=15m")
    assert [
        page.locator(f"#add-{name}").get_attribute("href") for name in ("webcal", "google", "outlook", "office")
    ] == links
