"""The queues of waiting jobs: with pages in memory and the rest on disk, the next one is always the right one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventvault.jobs import waiting
from eventvault.jobs.changes import Changes
from eventvault.jobs.job import Job
from eventvault.jobs.waiting import WaitingQueues, waiting_types
from tests.eventvault.jobs.rig import MemoryDatabase

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 20)),
        st.tuples(st.just("next"), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 50)),
        st.tuples(st.just("write"), st.just(0)),
        st.tuples(st.just("forget"), st.just(0)),
    ),
    max_size=60,
)


def job(order: int, run_at: int, job_type: str = "report") -> Job:
    return Job(id=f"j{order}", type=job_type, order=order, state="pending", created=0, run_at=run_at, digest="")


@pytest.mark.slow
@given(steps=STEPS, page=st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_the_next_job_is_the_first_one_whatever_was_added_and_removed(steps: list[tuple[str, int]], page: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "PAGE", page)
        database = MemoryDatabase()
        changes, queues = Changes(database), WaitingQueues()
        queues.serve({"report"})
        model: dict[int, Job] = {}
        for number, (step, value) in enumerate(steps):
            if step == "add":
                model[number] = job(number, value)
                queues.add(changes, model[number])
            elif step == "remove" and value in model:
                queues.remove(changes, model.pop(value))
            elif step == "write":
                database.write(changes.written)
                changes = Changes(database)
            elif step == "forget":
                queues.serve(set())
                queues.serve({"report"})
            found = queues.next(changes, "report", 0)
            first = min(model.values(), key=lambda each: (each.run_at, each.order), default=None)
            assert (found and found.job_id) == (first and first.id)
            if step == "next" and first is not None:
                queues.remove(changes, model.pop(first.order))


@pytest.mark.slow
def test_a_million_jobs_need_the_memory_of_some_pages() -> None:
    database = MemoryDatabase()
    changes, queues = Changes(database), WaitingQueues()
    queues.serve({"report"})
    for order in range(10 * waiting.PAGE):
        queues.add(changes, job(order, run_at=0))
    database.write(changes.written)
    changes = Changes(database)
    for order in range(10 * waiting.PAGE):
        head = queues.next(changes, "report", 0)
        assert head is not None
        assert head.order == order
        queues.remove(changes, job(order, run_at=0))
        assert len(queues._queues["report"][0].entries) <= 2 * waiting.PAGE
    assert queues.next(changes, "report", 0) is None


def test_the_types_that_wait_are_listed_once_each() -> None:
    changes, queues = Changes(MemoryDatabase()), WaitingQueues()
    for order, name in enumerate(["b", "a", "a", "a\x00", "ab", "c"]):
        queues.add(changes, job(order, order, name))
    changes.reader.write(changes.written)
    assert list(waiting_types(changes.reader)) == ["a", "a\x00", "ab", "b", "c"]
