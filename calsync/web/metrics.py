"""The metrics of one process, in Prometheus' text format."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from calsync.schedule.agenda import Agenda

_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE"})


class Metrics:
    """The counters and gauges of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter("calsync_http_requests", "Requests answered.", ["method", "status"], registry=self.registry)
        self._requests = cache(requests.labels)
        self._request_seconds = Histogram("calsync_http_request_seconds", "Time to answer.", registry=self.registry)
        self.writes = Counter(
            "calsync_writes", "Calls that reserve, change or release.", ["action", "outcome"], registry=self.registry
        )
        self.sync_seconds = Histogram("calsync_sync_seconds", "Time to take in changes.", registry=self.registry)
        self.sync_failures = Counter("calsync_sync_failures", "Syncs that failed.", registry=self.registry)
        self._resources = Gauge("calsync_resources", "Resources on the calendar.", registry=self.registry)
        self._defects = Gauge(
            "calsync_defective_resources", "Resources that cannot be read in full.", registry=self.registry
        )
        self._reservations = Gauge("calsync_reservations", "Reserved weeks in the horizon.", registry=self.registry)
        self._conflicts = Gauge(
            "calsync_standing_conflicts", "Blocking conflicts of reserved slots that are not over.", registry=self.registry
        )
        self.synced = Gauge(
            "calsync_synced_timestamp_seconds", "When the agenda was last confirmed.", registry=self.registry
        )

    def count_request(self, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests(method if method in _METHODS else "other", status).inc()
        self._request_seconds.observe(seconds)

    def count_agenda(self, agenda: Agenda, conflicts: int) -> None:
        """Set the gauges from an agenda, and from the number of its blocking conflicts."""
        self._resources.set(len(agenda.objects))
        self._defects.set(len(agenda.defects))
        self._reservations.set(len(agenda.reserved))
        self._conflicts.set(conflicts)

    def exposition(self) -> bytes:
        """Return the metrics as text."""
        return generate_latest(self.registry)
