"""How far a few machines carry: subscribers who poll, a caching proxy before calsync, and replicas behind it.

An hour is played second by second from a seed. What a request costs is measured; how subscribers behave is assumed, and
stands in `Behaviour`. Each poll asks for one of several addresses (the feed, and the feed through a filter). A proxy
answers from its copy as long as that is fresh; then one poll has the copy looked after in the background, by ETag, while
all others still get it (RFC 5861, section 3). Polls for which there is no copy wait for one request.

Plan with figures of your own: `python -m benchmarks.subscribers --hot 0.0001 --unchanged 0.00005 --size 500000`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.tables import draw

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Cost:
    """The CPU seconds that calsync takes for a whole feed and for a 304, and the bytes of each answer."""

    hot: float
    unchanged: float
    size: int
    head: int = 600


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How subscribers poll, in shares of one.

    `bunched` polls fall on the full interval of the clock, `lag` seconds late in the mean; the others anywhere. Those who
    are `conditional` send If-None-Match. `filtered` ones are spread over `filters` addresses beside the feed itself. The
    calendar changes so many times an hour.
    """

    bunched: float = 0.3
    lag: float = 20
    conditional: float = 0.7
    filtered: float = 0.2
    filters: int = 20
    changes: int = 4


@dataclass(frozen=True, slots=True)
class Proxy:
    """So many caching proxies that share the polls, with calsync's Cache-Control."""

    nodes: int = 2
    max_age: int = 60
    stale: int = 600


@dataclass(frozen=True, slots=True)
class Demand:
    """What arrives in each second of the hour: whole feeds and 304s."""

    whole: tuple[int, ...]
    unchanged: tuple[int, ...]

    @property
    def requests(self) -> list[int]:
        return [whole + unchanged for whole, unchanged in zip(self.whole, self.unchanged, strict=True)]

    def work(self, cost: Cost) -> list[float]:
        """The CPU seconds that calsync has to do for each second."""
        return [n * cost.hot + m * cost.unchanged for n, m in zip(self.whole, self.unchanged, strict=True)]

    def bytes(self, cost: Cost) -> list[int]:
        """The bytes to send for each second."""
        return [n * (cost.size + cost.head) + m * cost.head for n, m in zip(self.whole, self.unchanged, strict=True)]


def changed_at(behaviour: Behaviour, dice: random.Random) -> list[int]:
    """The seconds at which the calendar changes, from an hour before the one that is played."""
    return sorted(dice.randrange(-HOUR, HOUR) for _ in range(2 * behaviour.changes))


def polls(subscribers: int, interval: int, behaviour: Behaviour, dice: random.Random) -> list[list[int]]:
    """How often each address is polled in each second of the hour; the first one is the feed without a filter."""
    addresses = [[0] * HOUR for _ in range(1 + behaviour.filters)]
    for _ in range(subscribers):
        filtered = behaviour.filters and dice.random() < behaviour.filtered
        seconds = addresses[dice.randint(1, behaviour.filters) if filtered else 0]
        bunched = dice.random() < behaviour.bunched
        phase = (
            dice.expovariate(1 / behaviour.lag) if bunched and behaviour.lag else 0 if bunched else dice.random() * interval
        )
        for second in range(int(phase) % interval, HOUR, interval):
            seconds[second] += 1
    return addresses


def asked(polls: Sequence[int], interval: int, behaviour: Behaviour, changes: Sequence[int]) -> Demand:
    """What the polls of one address come to: a 304 for those who are conditional and have the feed as it is."""
    whole, unchanged = [], []
    for second, count in enumerate(polls):
        stale = any(second - interval < change <= second for change in changes)
        same = 0 if stale else round(count * behaviour.conditional)
        whole.append(count - same)
        unchanged.append(same)
    return Demand(tuple(whole), tuple(unchanged))


def forwarded(polls: Sequence[int], proxy: Proxy, changes: Sequence[int]) -> Demand:
    """What one proxy asks calsync for, for the polls of one address: one request at most while its copy is fresh."""
    whole, unchanged = [0] * len(polls), [0] * len(polls)
    copied = None
    for second, count in enumerate(polls):
        if not count or (copied is not None and second < copied + proxy.max_age):
            continue
        if copied is None or second >= copied + proxy.max_age + proxy.stale:
            whole[second] += 1  # there is no copy that may still be shown
        elif any(copied < change <= second for change in changes):
            whole[second] += 1
        else:
            unchanged[second] += 1
        copied = second
    return Demand(tuple(whole), tuple(unchanged))


def together(demands: Sequence[Demand]) -> Demand:
    """All of them at once."""
    whole = tuple(map(sum, zip(*(demand.whole for demand in demands), strict=True)))
    return Demand(whole, tuple(map(sum, zip(*(demand.unchanged for demand in demands), strict=True))))


def longest_wait(work: Sequence[float], replicas: int) -> float:
    """The seconds that a poll waits at worst when so many replicas, of one core each, share the work of each second."""
    backlog = worst = 0.0
    for added in work:
        worst = max(worst, (backlog + added) / replicas)
        backlog = max(0.0, backlog + added - replicas)
    return worst


def replicas(work: Sequence[float], patience: float) -> int:
    """How many replicas it takes for nobody to wait longer than `patience` seconds; never fewer than one."""
    few, many = 0, 1
    while longest_wait(work, many) > patience:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if longest_wait(work, middle) <= patience else (middle, many)
    return many


def spread(polls: Sequence[int], nodes: int) -> list[list[int]]:
    """The polls of each proxy, when they take turns."""
    edges = [[second_total * n // nodes for second_total in polls] for n in range(nodes + 1)]
    return [[high - low for low, high in zip(lower, upper, strict=True)] for lower, upper in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Figures:
    """What an hour comes to: requests a second, cores and bytes a second in the mean and at the worst second."""

    where: str
    mean: float
    peak: int
    cores: float
    replicas: int
    bytes_mean: float
    bytes_peak: float


PATIENCE = 2.0
"""The seconds that a subscriber's poll may wait at the full hour."""


def figures(where: str, demand: Demand, cost: Cost) -> Figures:
    """The figures of what arrives at calsync."""
    work, size, requests = demand.work(cost), demand.bytes(cost), demand.requests
    hour = len(requests)
    needed = replicas(work, PATIENCE)
    return Figures(where, sum(requests) / hour, max(requests), sum(work) / hour, needed, sum(size) / hour, max(size))


def play(subscribers: int, interval: int, cost: Cost, behaviour: Behaviour, proxy: Proxy, seed: int = 49) -> list[Figures]:
    """The figures without a proxy and with it, and those of the proxy itself, whose cores are its own affair."""
    dice = random.Random(seed)
    changes = changed_at(behaviour, dice)
    addresses = polls(subscribers, interval, behaviour, dice)
    outside = together([asked(one, interval, behaviour, changes) for one in addresses])
    inside = together([forwarded(one, proxy, changes) for each in addresses for one in spread(each, proxy.nodes)])
    return [
        figures("calsync, no proxy", outside, cost),
        figures("the proxy", outside, Cost(0, 0, cost.size, cost.head)),
        figures("calsync behind it", inside, cost),
    ]


POPULATIONS = {"100,000 every 15 minutes": (100_000, 900), "1,000,000 every hour": (1_000_000, HOUR)}


def planned(cost: Cost, behaviour: Behaviour = Behaviour(), proxy: Proxy = Proxy()) -> list[list[str]]:
    """Both populations, without a proxy and with it, as a table."""
    lines = [["subscribers", "at", "requests/s", "worst second", "cores", "replicas", "MB/s", "worst second"]]
    for name, (subscribers, interval) in POPULATIONS.items():
        for found in play(subscribers, interval, cost, behaviour, proxy):
            own = found.where == "the proxy"
            size = [f"{found.bytes_mean / 1e6:,.2f}", f"{found.bytes_peak / 1e6:,.1f}"]
            cores = ["", ""] if own else [f"{found.cores:.4f}", f"{found.replicas}"]
            lines.append([name, found.where, f"{found.mean:,.1f}", f"{found.peak:,}", *cores, *size])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="How many replicas it takes for so many subscribers.")
    parser.add_argument("--hot", type=float, required=True, help="CPU seconds of a whole feed")
    parser.add_argument("--unchanged", type=float, required=True, help="CPU seconds of a 304")
    parser.add_argument("--size", type=int, required=True, help="bytes of the feed")
    options = parser.parse_args()
    draw(planned(Cost(options.hot, options.unchanged, options.size)))


if __name__ == "__main__":
    main()
