"""Past one machine: what the measured cost of a feed means for many subscribers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.rows import Row, rows
from benchmarks.rows_feed import hot
from benchmarks.stage import Stage
from benchmarks.subscribers import POPULATIONS, Behaviour, Proxy, play


@rows("subscribers")
def planned(stage: Stage) -> Iterator[Row]:
    """The cores of calsync that each population takes behind a proxy, with what it would be without one."""
    if stage.cost is None:
        list(hot(stage))
    assert stage.cost is not None  # measured just now
    for name, (subscribers, interval) in POPULATIONS.items():
        alone, proxy, behind = play(subscribers, interval, stage.cost, Behaviour(), Proxy())
        yield Row.of(
            f"subscribers, {name}: cores of calsync behind a proxy",
            behind.cores,
            None,
            f"{behind.mean:.1f} requests a second and {behind.bytes_mean / 1e6:.2f} MB/s (at worst {behind.peak}); "
            f"the proxy has {proxy.mean:,.0f} and {proxy.bytes_mean / 1e6:,.1f} MB/s (at worst {proxy.peak:,} and "
            f"{proxy.bytes_peak / 1e6:,.0f} MB/s); without it calsync takes {alone.cores:.2f} cores, and {alone.replicas} "
            f"replicas at the full hour; from {stage.cost.hot * 1e6:,.0f} µs for {stage.cost.size:,} bytes and "
            f"{stage.cost.unchanged * 1e6:,.0f} µs for a 304",
        )
