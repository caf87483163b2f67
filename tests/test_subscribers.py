"""The arithmetic of subscribers, proxies and replicas."""

import random

import pytest

from benchmarks.subscribers import (
    HOUR,
    Behaviour,
    Cost,
    Demand,
    Proxy,
    asked,
    forwarded,
    longest_wait,
    play,
    polls,
    replicas,
    spread,
    together,
)

COST = Cost(hot=0.001, unchanged=0.0005, size=100_000, head=500)


def test_everybody_polls_once_an_interval():
    addresses = polls(1000, 900, Behaviour(), random.Random(1))
    assert sum(map(sum, addresses)) == 1000 * HOUR // 900
    assert len(addresses) == 21


def test_those_who_are_bunched_come_at_the_full_interval():
    [feed] = polls(100, 900, Behaviour(bunched=1, lag=0, filtered=0, filters=0), random.Random(1))
    assert {second: count for second, count in enumerate(feed) if count} == {0: 100, 900: 100, 1800: 100, 2700: 100}


def test_those_who_are_not_are_spread():
    [feed] = polls(36_000, HOUR, Behaviour(bunched=0, filtered=0, filters=0), random.Random(1))
    assert sum(feed) == 36_000
    assert max(feed) < 40


def test_who_is_conditional_gets_a_304_until_something_changes():
    behaviour = Behaviour(conditional=0.75)
    demand = asked([4] * 300, 100, behaviour, changes=[150])
    assert demand.unchanged[149] == 3
    assert demand.whole[149] == 1
    assert {demand.whole[second] for second in range(150, 250)} == {4}
    assert demand.unchanged[250] == 3


def test_work_and_bytes_follow_from_the_answers():
    demand = Demand((2, 0), (1, 4))
    assert demand.requests == [3, 4]
    assert demand.work(COST) == pytest.approx([0.0025, 0.002])
    assert demand.bytes(COST) == [2 * 100_500 + 500, 4 * 500]


def test_a_proxy_asks_once_a_minute_however_many_poll():
    for count in (1, 1000):
        demand = forwarded([count] * 600, Proxy(max_age=60, stale=600), changes=[130])
        assert {second for second, n in enumerate(demand.requests) if n} == {*range(0, 600, 60)}
        assert demand.whole[0] == demand.whole[180] == 1
        assert sum(demand.whole) == 2


def test_a_copy_that_is_too_old_is_fetched_whole():
    polled = [0] * 1000
    polled[0] = polled[659] = 1
    assert sum(forwarded(polled, Proxy(), changes=[]).whole) == 1
    polled[659], polled[660] = 0, 1
    assert sum(forwarded(polled, Proxy(), changes=[]).whole) == 2


def test_nothing_is_asked_where_nobody_polls():
    assert sum(forwarded([0] * HOUR, Proxy(), changes=[5]).requests) == 0


def test_proxies_share_all_polls():
    polled = [7, 0, 1, 12]
    shared = spread(polled, 3)
    assert [sum(each) for each in zip(*shared, strict=True)] == polled
    assert len(shared) == 3


def test_demands_add_up():
    assert together([Demand((1, 2), (0, 1)), Demand((3, 0), (2, 2))]) == Demand((4, 2), (2, 3))


def test_work_that_is_too_much_for_a_second_is_waited_for():
    assert longest_wait([3, 0, 0, 0], 1) == 3
    assert longest_wait([3, 3, 0, 0], 1) == 5
    assert longest_wait([3, 3, 0, 0], 3) == 1


@pytest.mark.parametrize("patience", [0.5, 1, 2])
def test_there_are_as_few_replicas_as_keep_the_wait_short(patience):
    work = [random.Random(second).random() * 9 for second in range(60)] + [120.0]
    needed = replicas(work, patience)
    assert longest_wait(work, needed) <= patience < longest_wait(work, needed - 1)
    assert replicas([0.0], patience) == 1


def test_a_proxy_makes_what_calsync_does_independent_of_how_many_subscribe():
    behaviour = Behaviour(filtered=0, filters=0)
    few, many = (play(count, 900, COST, behaviour, Proxy()) for count in (2_000, 20_000))
    assert many[0].cores == pytest.approx(10 * few[0].cores, rel=0.1)
    assert few[1].mean == few[0].mean
    assert many[2].cores < 1.2 * few[2].cores
    assert many[2].mean <= Proxy().nodes / 60
