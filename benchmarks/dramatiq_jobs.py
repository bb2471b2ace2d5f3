"""The no-op job for Dramatiq: acknowledged when it is done, with its result kept. Run by the Python that has Dramatiq.

`python -m benchmarks.dramatiq_jobs` submits as many as each line of its input says, and answers it with a line.
"""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from benchmarks.submitting import submit_as_asked

URL = f"redis://127.0.0.1:{os.environ['REDIS_PORT']}"
RESULTS_STAY_MS = 24 * 3600 * 1000
broker = RedisBroker(url=f"{URL}/0")
broker.add_middleware(Results(backend=RedisBackend(url=f"{URL}/1"), store_results=True, result_ttl=RESULTS_STAY_MS))
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="noop")
def noop(number: int) -> int:
    return number


if __name__ == "__main__":
    submit_as_asked(lambda number: noop.send(number))
