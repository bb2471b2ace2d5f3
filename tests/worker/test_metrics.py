"""The metrics of a worker, as Prometheus reads them."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.worker.worker_harness import running_worker
from worker import metrics

pytestmark = pytest.mark.process


def test_what_ended_is_counted_by_type_and_outcome() -> None:
    with running_worker() as worker:
        server = metrics.serve(worker.supervisor, "127.0.0.1", 0)
        for job_type in ("about", "about", "give_up", "os_exit"):
            worker.perform(job_type)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            samples = {
                (each.name, *sorted(each.labels.items())): each.value for family in families for each in family.samples
            }
        server.shutdown()
        server.server_close()
    assert samples["eventvault_worker_jobs_total", ("outcome", "done"), ("type", "about")] == 2
    assert samples["eventvault_worker_jobs_total", ("outcome", "failed"), ("type", "give_up")] == 1
    assert samples["eventvault_worker_job_seconds_total", ("type", "about")] > 0
    assert samples[("eventvault_worker_slots",)] == 2
    assert samples[("eventvault_worker_connected",)] == 1
    assert samples[("eventvault_worker_processes_lost_total",)] == 1
