"""The processes that this one has started are collected, whichever threads start and collect them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eventvault.store.process import spawn


class Ended(subprocess.Popen[bytes]):
    """A child that has ended. While it is being collected, another thread starts `next`."""

    next: subprocess.Popen[bytes] | None = None

    def poll(self) -> int | None:
        if self.next is not None:
            spawn._children.append(self.next)
        return super().poll()


def test_a_child_that_is_started_while_others_are_collected_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "_children", [])
    ended, other = (Ended([sys.executable, "-c", ""]) for _ in range(2))
    ended.wait()
    other.wait()
    ended.next = other
    spawn._children.append(ended)
    spawn.reap()
    assert spawn._children == [other]
    spawn.reap()
    assert spawn._children == []
