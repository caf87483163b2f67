"""The answer cache gives what the app would give, is bounded, and answers many at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calsync.web.cache import AnswerCache
from support.site import served
from support.town import CONFIG, NOW, Town, changes


def cache_of(app):
    """The answer cache of an app that has answered once."""
    layer = app.middleware_stack
    while not isinstance(layer, AnswerCache):
        layer = getattr(layer, "app", None) or layer._app
    return layer


@pytest.mark.heavy
@settings(max_examples=8)
@given(st.lists(changes, min_size=1, max_size=3))
def test_an_answer_from_the_cache_is_the_one_the_app_would_give(tmp_path_factory, story):
    town = Town(tmp_path_factory.mktemp("town") / "deployments.db")
    with served(CONFIG, town.calendar, lambda: town.now) as client:
        state = client.app.state.calsync
        client.get("/deployments.ics")
        cache, etags = cache_of(client.app), set()
        for change in story:
            town.now += timedelta(minutes=1)
            town.apply(change)
            state.refresh()
            for path in ("/deployments.ics", "/deployments.ics?only=reservations", "/api/conflicts?week=2026-W50"):
                etags.add(client.get(path).headers.get("etag", "none"))
                for known in (None, *etags, 'W/"x"', "*"):
                    headers = {"If-None-Match": known} if known else {}
                    methods = ("GET", "HEAD") if path.startswith("/deployments") else ("GET",)
                    cache._answers.clear()
                    plain = [client.request(method, path, headers=headers) for method in methods]
                    # An answer whose Last-Modified would still be to come is not kept.
                    assert cache._answers or state.sync.agenda.changed > town.now
                    again = [client.request(method, path, headers=headers) for method in methods]
                    for one, other in zip(plain, again, strict=True):
                        assert (one.status_code, one.content) == (other.status_code, other.content)
                        assert dict(one.headers) == dict(other.headers)


def test_the_cache_is_bounded_in_answers_and_in_bytes_and_takes_a_query_in_any_order(calendar, monkeypatch):
    with served(CONFIG, calendar, NOW) as client:
        size = len(client.get("/deployments.ics?alarm=1s").content)
        cache = cache_of(client.app)
        monkeypatch.setattr("calsync.web.cache.MAX_ANSWERS", 5)
        for seconds in range(10):
            client.get(f"/deployments.ics?alarm={seconds}s")
            assert len(cache._answers) <= 5
        monkeypatch.setattr("calsync.web.cache.MAX_BYTES", 2 * size)
        client.get("/deployments.ics?alarm=11s")
        assert sum(len(answer.body) for answer in cache._answers.values()) <= 2 * size
        client.get("/deployments.ics?window=american&alarm=1s")
        kept = len(cache._answers)
        client.get("/deployments.ics?alarm=1s&window=american")
        assert len(cache._answers) == kept


def test_of_a_name_given_twice_the_last_value_counts_in_the_cache_as_in_the_app(calendar):
    with served(CONFIG, calendar, NOW) as client:
        one, other = ("/api/conflicts?week=2026-W49&week=2026-W50", "/api/conflicts?week=2026-W50&week=2026-W49")
        answers = [client.get(url).json()["slots"][0]["id"][:10] for url in (one, other, one)]
    assert answers == ["2026-12-08", "2026-12-01", "2026-12-08"]


def test_feeds_asked_for_by_many_at_once_are_all_answered(calendar):
    with served(CONFIG, calendar, NOW) as client, ThreadPoolExecutor(20) as crowd:
        urls = [f"/deployments.ics?alarm={n % 60}s" for n in range(300)]
        assert {answer.status_code for answer in crowd.map(client.get, urls)} == {200}


def test_an_answer_is_not_given_again_under_a_name_that_the_server_does_not_have(calendar):
    with served(CONFIG, calendar, NOW) as client:
        assert [client.get("/deployments.ics").status_code for _ in range(3)] == [200] * 3
        assert client.get("/deployments.ics", headers={"Host": "elsewhere.example"}).status_code == 421
        assert client.get("/deployments.ics?windw=x").status_code == 422
