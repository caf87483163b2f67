"""A calendar that fails at any moment leaves a week as it was or as it was asked for, and asking again makes it so."""

import contextlib
import multiprocessing

import pytest
from actions import act, act_and_die, configuration, connect, prepare, state
from faults import Proxy
from places import REMOTE

from calsync.errors import CalendarError

pytestmark = pytest.mark.heavy

ACTIONS = ["reserve", "change", "release"]
MAX_REQUESTS = 20  # more than any action takes

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["actions"])


@pytest.fixture(params=REMOTE)
def remote(request, places):
    return lambda: places.new(request.param)


@contextlib.contextmanager
def calendar_behind_a_proxy(new_calendar):
    """The configuration of a new calendar, and that of the same one through a proxy."""
    place = new_calendar()
    with Proxy("127.0.0.1", place.port, place.protocol) as proxy:
        yield place.config(), place.config(proxy.through), proxy


@contextlib.contextmanager
def connected(config):
    follower = connect(config)
    try:
        yield follower
    finally:
        follower.calendar.close()


def warm_up(follower):
    """Let a server be tried out before what is counted."""
    getattr(follower.calendar, "_is_careless", lambda: None)()


def expected(action, new_calendar):
    """What stands before and after the action, where nothing fails, and how many requests it takes."""
    with calendar_behind_a_proxy(new_calendar) as (direct, through, proxy), connected(direct) as seen:
        prepare(action, seen)
        before = state(seen)
        with connected(through) as follower:
            warm_up(follower)
            seen_before = len(proxy.requests)
            act(action, follower)
            taken = len(proxy.requests) - seen_before
        assert 0 < taken < MAX_REQUESTS
        return before, state(seen), taken


@pytest.mark.parametrize("action", ACTIONS)
def test_a_connection_cut_at_any_request_leaves_the_week_as_before_or_as_asked(remote, action):
    before, asked, taken = expected(action, remote)
    assert before != asked
    for n in range(1, taken + 1):
        for fault in ("before", "during", "after"):
            with calendar_behind_a_proxy(remote) as (direct, through, proxy), connected(direct) as seen:
                prepare(action, seen)
                with connected(through) as follower:
                    warm_up(follower)
                    proxy.plan(n, fault)
                    try:
                        act(action, follower)
                        answered = True
                    except CalendarError:
                        answered = False
                    found = state(seen)
                    assert found == asked if answered else found in (before, asked), (n, fault)
                    proxy.heal()
                    act(action, follower)
                    assert state(seen) == asked, (n, fault)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_calendar_that_goes_away_at_any_request_and_comes_back_needs_nobody(remote, action):
    before, asked, taken = expected(action, remote)
    for n in range(1, taken + 1):
        with calendar_behind_a_proxy(remote) as (direct, through, proxy), connected(direct) as seen:
            prepare(action, seen)
            with connected(through) as follower:
                warm_up(follower)
                proxy.plan(n, "refuse")
                with pytest.raises(CalendarError):
                    act(action, follower)
                assert state(seen) in (before, asked), n
                proxy.heal()
                act(action, follower)
                assert state(seen) == asked, n


@pytest.mark.parametrize("action", ACTIONS)
def test_a_process_killed_at_any_request_leaves_the_week_as_before_or_as_asked(remote, action):
    before, asked, taken = expected(action, remote)
    for n in range(1, taken + 1):
        for fault in ("before", "after"):
            with calendar_behind_a_proxy(remote) as (direct, through, proxy), connected(direct) as seen:
                prepare(action, seen)
                ready, go = processes.Event(), processes.Event()
                victim = processes.Process(target=act_and_die, args=(action, through, ready, go))
                victim.start()
                assert ready.wait(30)
                proxy.plan(n, fault, then=victim.kill)
                go.set()
                victim.join(30)
                assert victim.exitcode == -9, (n, fault)
                assert state(seen) in (before, asked), (n, fault)
                act(action, seen)
                assert state(seen) == asked, (n, fault)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_process_killed_at_any_statement_leaves_the_embedded_week_as_before_or_as_asked(tmp_path, action):
    outcomes = set()
    for n in range(1, 40):
        config = configuration(f"sqlite:///{tmp_path}/{n}.db")
        with connected(config) as seen:
            prepare(action, seen)
            before = state(seen)
            ready, go = processes.Event(), processes.Event()
            victim = processes.Process(target=act_and_die, args=(action, config, ready, go, n))
            victim.start()
            go.set()
            victim.join(30)
            found = state(seen)
            act(action, seen)
            asked = state(seen)
            assert found in (before, asked), n
            outcomes.add((victim.exitcode, found == asked))
            if victim.exitcode == 0:
                break
    assert outcomes == {(-9, False), (-9, True), (0, True)}
