"""What Prometheus may know of the server."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from segbench.serve.scheduler import Scheduler

GONE = 499  # as nginx has it: the client has left, and the status is only written down
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """One server's, in a registry of its own."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter("segbench_requests", "Requests answered", ["route", "status"], registry=own)
        self._seconds = Histogram(
            "segbench_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, registry=own
        )
        self._batches = Histogram(
            "segbench_batch_size", "Photographs in a forward pass", ["model"], buckets=_SIZES, registry=own
        )
        self._forward = Histogram(
            "segbench_forward_seconds", "Time of a forward pass", ["model"], buckets=_SECONDS, registry=own
        )
        self._decode = Histogram(
            "segbench_decode_seconds", "Time to decode a photograph", buckets=_SECONDS, registry=own
        )
        self._ends = {
            503: Counter("segbench_shed", "Requests refused because the server was full or stopping", registry=own),
            504: Counter("segbench_expired", "Requests that were not answered by their deadline", registry=own),
            GONE: Counter("segbench_cancelled", "Requests whose client had left", registry=own),
        }

    def watch(self, scheduler: Scheduler[Any, Any, Any]) -> None:
        """Shows what is in flight now."""
        gauges = {
            "segbench_requests_in_progress": ("Admitted requests", lambda: scheduler.requests),
            "segbench_queue_depth": ("Photographs that wait, counted for each model", lambda: scheduler.depth),
            "segbench_megapixels_in_flight": ("Of the admitted photographs and uploads", lambda: scheduler.megapixels),
        }
        for name, (text, value) in gauges.items():
            Gauge(name, text, registry=self._registry).set_function(value)

    def batch(self, model: str, size: int, seconds: float) -> None:
        """A forward pass has ended."""
        self._batches.labels(model).observe(size)
        self._forward.labels(model).observe(seconds)

    def decoded(self, seconds: float) -> None:
        """A photograph has been decoded."""
        self._decode.observe(seconds)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request has been answered. `route`: its path with the names of parameters in it, so of a bounded number."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if status in self._ends:
            self._ends[status].inc()

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
