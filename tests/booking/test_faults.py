"""A calendar that fails at any moment leaves a week as it was or as it was asked for, and asking again makes it so."""

import contextlib
import itertools

import pytest

from calsync.core.errors import CalendarError
from support.actions import QUICK, WEEKS, act, act_and_die, connect, prepare, state
from support.engines import SERVERS, Place
from support.processes import PATIENCE
from support.samples import configured

pytestmark = pytest.mark.heavy

ACTIONS = ["reserve", "change", "release"]


@contextlib.contextmanager
def connected(config):
    sync = connect(config)
    try:
        yield sync
    finally:
        sync.calendar.close()


@pytest.fixture(params=SERVERS)
def remote(request, running, tmp_path):
    """Who sees a new calendar as it is, who sees it through a proxy, the configuration for the latter, and the proxy."""
    with Place(request.param, running, tmp_path) as place:
        proxy = place.proxy()
        through = place.config(proxy.through(place.url), calendar=QUICK)
        with connected(place.config(calendar=QUICK)) as seen, connected(through) as sync:
            yield seen, sync, through, proxy


def tried(action, seen, sync, proxy):
    """What stands before and after the action, where nothing fails, and how many requests it takes."""
    week = WEEKS[0]
    prepare(action, seen, week)
    before, already = state(seen, week), len(proxy.requests)
    act(action, sync, week)
    return before, state(seen, week), len(proxy.requests) - already


@pytest.mark.parametrize("action", ACTIONS)
def test_a_calendar_cut_off_at_any_request_leaves_the_week_as_before_or_as_asked_and_recovers_by_itself(remote, action):
    seen, sync, _, proxy = remote
    before, asked, taken = tried(action, seen, sync, proxy)
    assert before != asked
    outcomes = set()
    weeks = iter(WEEKS[1:] * 2)
    for n in range(1, taken + 1):
        for fault in ("before", "during", "after", "refuse"):
            week = next(weeks)
            if state(seen, week) is not None:
                act("release", seen, week)
                before = asked if action == "release" else "released"
            prepare(action, seen, week)
            before = state(seen, week)
            proxy.plan(n, fault)
            try:
                act(action, sync, week)
                answered = True
            except CalendarError:
                answered = False
            found = state(seen, week)
            assert found == asked if answered else found in (before, asked), (n, fault)
            outcomes.add((answered, found == asked))
            proxy.heal()
            act(action, sync, week)
            assert state(seen, week) == asked, (n, fault)
    assert {(True, True), (False, False), (False, True)} <= outcomes


def killed(processes, action, config, ignores_preconditions, week, at=lambda kill: None, n=0):
    """The exit code of a process that acts on the week, and that dies where `at` has it killed or at the n-th statement."""
    ready, go = processes.Event(), processes.Event()
    victim = processes.Process(target=act_and_die, args=(action, config, ignores_preconditions, week, ready, go, n))
    victim.start()
    try:
        assert ready.wait(PATIENCE)
        at(victim.kill)
        go.set()
        victim.join(PATIENCE)
        return victim.exitcode
    finally:
        victim.kill()
        victim.join()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_process_killed_at_any_request_leaves_the_week_as_before_or_as_asked(remote, action, processes):
    seen, sync, through, proxy = remote
    before, asked, _ = tried(action, seen, sync, proxy)
    ignores_preconditions = getattr(sync.calendar, "_ignores_preconditions", None)
    outcomes = set()
    weeks = iter(WEEKS[1:])

    def kill_at(n, fault):
        week = next(weeks)
        prepare(action, seen, week)
        exitcode = killed(
            processes, action, through, ignores_preconditions, week, lambda kill: proxy.plan(n, fault, then=kill)
        )
        found = state(seen, week)
        assert found in (before, asked), n
        outcomes.add((exitcode, found == asked))
        proxy.heal()
        act(action, seen, week)
        assert state(seen, week) == asked, n
        return exitcode

    # Each request dies with its process before it is forwarded, and the last one as its answer is on the way.
    last = next(n for n in itertools.count(1) if kill_at(n, "before") == 0) - 1
    assert kill_at(last, "after") == -9
    assert outcomes == {(-9, False), (-9, True), (0, True)}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_process_killed_at_any_statement_leaves_the_embedded_week_as_before_or_as_asked(tmp_path, action, processes):
    config = configured({"CALSYNC_CALENDAR_URL": f"sqlite:///{tmp_path}/deployments.db"})
    outcomes = set()
    with connected(config) as seen:
        for n, week in enumerate(WEEKS, start=1):
            prepare(action, seen, week)
            before = state(seen, week)
            exitcode = killed(processes, action, config, None, week, n=n)
            found = state(seen, week)
            act(action, seen, week)
            asked = state(seen, week)
            assert found in (before, asked), n
            outcomes.add((exitcode, found == asked))
            if exitcode == 0:
                break
    assert outcomes == {(-9, False), (-9, True), (0, True)}
