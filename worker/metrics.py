"""Metrics of a worker for Prometheus, at WORKER_METRICS_ADDRESS. A thread serves them; the supervisor only counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from worker.supervisor import Supervisor


class SupervisorCollector:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        running, counts = self._supervisor, self._supervisor.counts
        yield _counter("jobs", "Attempts that ended.", ["type", "outcome"], list(counts.ended.items()))
        seconds = [((name,), value) for name, value in list(counts.seconds.items())]
        yield _counter("job_seconds", "How long handlers ran.", ["type"], seconds)
        yield _gauge("slots", "Jobs that this worker runs at a time.", running.options.concurrency)
        yield _gauge("running", "Jobs that run.", len(running.pool.busy))
        yield _gauge(
            "connected", "1 if the dispatcher, or a broker, can be reached.", float(running.transport.is_open())
        )
        yield _counter("processes_lost", "Processes that ended while a job ran.", [], [((), counts.executors_ended)])
        yield _counter("sessions_lost", "How often others got the jobs.", [], [((), counts.sessions_fenced)])


def serve(supervisor: Supervisor, host: str, port: int) -> WSGIServer:
    """Serve the metrics in a thread that ends with the process. Raises OSError if the address is not free."""
    registry = CollectorRegistry()
    registry.register(SupervisorCollector(supervisor))
    return start_http_server(port, host, registry)[0]


def _counter(name: str, meaning: str, labels: list[str], values: Sequence[tuple[Sequence[str], float]]) -> Metric:
    family = CounterMetricFamily(f"eventvault_worker_{name}", meaning, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"eventvault_worker_{name}", meaning, value=value)
