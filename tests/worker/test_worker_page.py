"""The handler and its test in docs/worker.md work as they are printed."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from worker import registry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "worker.md"


def test_the_handler_and_its_test_work(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers, tests = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.setattr(registry, "_registrations", {})
    monkeypatch.setattr(registry, "_schedules", [])
    module = types.ModuleType("my_jobs")
    monkeypatch.setitem(sys.modules, "my_jobs", module)
    exec(compile(handlers, "my_jobs.py", "exec"), module.__dict__)
    names: dict[str, object] = {}
    exec(compile(tests, "test_my_jobs.py", "exec"), names)
    test = names["test_a_report"]
    assert callable(test)
    test()
    assert [schedule.name for schedule in registry.catalogue().schedules] == ["report"]
