"""The no-op job for Celery: acknowledged when it is done, with its result kept. Run by the Python that has Celery.

`python -m benchmarks.celery_jobs` submits as many as each line of its input says, and answers it with a line.
"""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.submitting import submit_as_asked

PORT = os.environ["REDIS_PORT"]
app = Celery("jobs", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, task_ignore_result=False)


@app.task(name="noop")
def noop(number: int) -> int:
    return number


if __name__ == "__main__":
    submit_as_asked(lambda number: noop.delay(number))
