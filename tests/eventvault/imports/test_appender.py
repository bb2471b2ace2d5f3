"""What was appended is counted, whenever the thread that appends it ends."""

from __future__ import annotations

from eventvault.database.values import AppendResult
from eventvault.events import event
from eventvault.events.event import Appended
from eventvault.imports.appender import Appender
from eventvault.imports.drafts import Drafts


def test_a_batch_counts_whose_thread_has_ended_before_it_is_waited_for() -> None:
    drafts = Drafts([event.draft({"type": "t", "id": "a"}, 0)], [], [])
    with Appender(lambda drafts: AppendResult([Appended(1, 0)] * len(drafts), 1)) as appender:
        appender.put([], drafts)
        appender._put(None)
        appender._thread.join(60)
        assert [batch.drafts for batch in appender.finish()] == [drafts]
