"""`secondsAtRisk`: how long an event has been only in the database, never reported as less."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from eventvault import clock, progress
from eventvault.errors import TooBusy
from eventvault.journal import compaction, segment
from eventvault.journal import journal as journal_module
from eventvault.journal.coverage import MERGE_COUNT
from eventvault.journal.journal import Journal
from eventvault.journal.segment import Segment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests import processes
from tests.restoring import drafts, generation, put_in_the_way
from tests.stores import running_service

HOUR = 3_600 * 1_000_000


@pytest.fixture
def quick(settings_with: Callable[..., Settings]) -> Settings:
    return settings_with({"JOURNAL_INTERVAL": "10"})


def wait_for_risk(service: StoreService) -> None:
    """Wait until health reports that an event has been at risk for a while."""
    processes.wait_until(lambda: service.status()["journal"]["secondsAtRisk"] > 0.2, "nothing is said to be at risk")


@pytest.mark.slow
def test_what_is_in_a_segment_is_not_at_risk_while_others_are_merged(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_risk: list[float] = []
    real = compaction.merge

    def asking(*arguments: Any) -> Segment:
        service.append(drafts(1, "meanwhile"))
        at_risk.append(service.journal.seconds_at_risk() - (clock.now() - began) / 1e6)
        return real(*arguments)

    monkeypatch.setattr(compaction, "merge", asking)
    with running_service(settings_with({"JOURNAL_INTERVAL": "3600000"})) as service:
        for number in range(MERGE_COUNT):
            service.append(drafts(1, f"each-{number}"))
            assert service.journal.flush()
        service.append(drafts(1, "last"))
        processes.wait_until(lambda: service.journal.seconds_at_risk() > 0.1, "it does not age")
        began = clock.now()
        assert service.journal.flush(survey=True)

    assert len(at_risk) == 1
    assert at_risk[0] <= 0.001  # as it is rounded


@pytest.mark.slow
def test_what_a_journal_never_looked_at_is_at_risk(quick: Settings) -> None:
    with running_service(quick) as service:
        service.append(drafts(1))
    put_in_the_way(quick.backup_dir / "journal")
    with running_service(quick) as service:
        service.append(drafts(1, "more"))
        wait_for_risk(service)
        assert service.status()["journal"]["state"] == "failed"
        assert service.status()["journal"]["lastSequence"] is None


@pytest.mark.slow
def test_what_comes_after_a_restore_is_at_risk_though_more_was_kept_before_it(quick: Settings) -> None:
    with running_service(quick) as service:
        service.append(drafts(1))
        name = service.create_backup().backup.name
        service.append(drafts(50, "left behind"))
        processes.wait_until(lambda: service.status()["journal"]["lastSequence"] == 51, "it is not in the journal")
        put_in_the_way(quick.backup_dir / "journal")
        service.restore(name)
        service.append(drafts(1, "later"))

        wait_for_risk(service)

        assert service.status()["journal"]["generation"] == generation(service)
        assert service.status()["journal"]["lastSequence"] is None


@pytest.mark.slow
def test_a_clock_that_was_set_back_hides_no_risk(quick: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_service(quick) as service:
        real = clock.now
        monkeypatch.setattr(service.bus.registry, "_now", lambda: real() + HOUR)
        service.append(drafts(1, "before"))
        processes.wait_until(lambda: service.status()["journal"]["lastSequence"] == 1, "it is not in the journal")
        monkeypatch.undo()
        put_in_the_way(quick.backup_dir / "journal")

        service.append(drafts(1, "after"))

        wait_for_risk(service)
        monkeypatch.undo()


@pytest.mark.slow
def test_a_registry_without_events_risks_nothing(quick: Settings) -> None:
    with running_service(quick):
        pass
    put_in_the_way(quick.backup_dir / "journal")
    with running_service(quick) as service:
        processes.wait_until(lambda: service.status()["journal"]["state"] == "failed", "it does not fail")
        assert service.status()["journal"]["secondsAtRisk"] == 0.0


def test_a_journal_that_is_not_started_says_what_is_at_risk(quick: Settings) -> None:
    with running_service(quick) as service:
        journal = Journal(service.settings, service.bus, service.catalogue, service.catalogue.entries)
        assert journal.seconds_at_risk() == 0.0
        service.append(drafts(1))
        processes.wait_until(lambda: journal.seconds_at_risk() > 0, "nothing is at risk")
        assert journal.flush()
        assert journal.seconds_at_risk() == 0.0
        assert journal.status()["state"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(("interval", "seconds", "degraded"), [
    ("1000", 9.0, False), ("1000", 11.0, True), ("10", 11.0, True), ("60000", 599.0, False), ("60000", 601.0, True),
])  # fmt: skip
def test_health_is_degraded_once_too_much_is_at_risk(
    settings_with: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    interval: str,
    seconds: float,
    degraded: bool,
) -> None:
    with running_service(settings_with({"JOURNAL_INTERVAL": interval})) as service:
        monkeypatch.setattr(service.journal, "_began", time.monotonic() - 3600)
        monkeypatch.setattr(service.journal, "seconds_at_risk", lambda: seconds)
        codes = [problem["code"] for problem in service.status()["problems"]]
        assert codes == (["journal_failed"] if degraded else [])
        monkeypatch.setattr(service.journal, "seconds_at_risk", lambda: 0.0)
        assert service.status()["status"] == "ok"


@pytest.mark.slow
def test_what_was_at_risk_before_the_store_began_is_no_delay_of_its_journal(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings) as service:
        monkeypatch.setattr(service.journal, "seconds_at_risk", lambda: 3600.0)
        assert service.status()["status"] == "ok"


@pytest.mark.parametrize(("paused", "degraded"), [(0.0, True), (60.0, True), (115.0, False)])
def test_the_time_in_which_the_process_was_stopped_delays_no_journal(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, paused: float, degraded: bool
) -> None:
    monkeypatch.setattr(progress, "_newest_pause", [progress._Pause()])
    progress.forgive(paused)
    journal = StoreService(settings).journal
    monkeypatch.setattr(journal, "_began", time.monotonic() - 3600)
    monkeypatch.setattr(journal, "seconds_at_risk", lambda: 120.0)
    assert (journal.lag is not None) == degraded


@pytest.mark.slow
def test_a_journal_that_hangs_is_named_and_stops_neither_posts_nor_a_restore_nor_the_stop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, release = threading.Event(), threading.Event()
    real = segment.write_segment

    def hang(*arguments: Any) -> Segment:
        if not release.is_set():
            hanging.set()
            release.wait(60)
        return real(*arguments)

    monkeypatch.setattr(journal_module, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(journal_module, "QUICK_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(progress, "STUCK_SECONDS", 0.3)
    with running_service(settings) as service:
        made = service.create_backup()
        monkeypatch.setattr(segment, "write_segment", hang)
        service.append(drafts(1, "at-risk"))
        assert hanging.wait(60)
        processes.wait_until(lambda: ("stuck", "journal") in codes_of(service), "health does not name the journal")
        service.append(drafts(1, "another"))
        service.restore(made.backup.name)
        service.append(drafts(1, "after the restore"))
        service.journal._stopping.set()
        service.journal._thread.join(0.1)
        with pytest.raises(TooBusy):
            service.journal.flush(wait_seconds=0.1)
        release.set()


def codes_of(service: StoreService) -> set[tuple[str, str | None]]:
    return {(problem["code"], (problem["about"] or {}).get("name")) for problem in service.status()["problems"]}
