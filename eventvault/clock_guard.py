"""A guard for the system clock: a leap ahead is not believed until it is confirmed.

One wrong reading would date all later events into the future, as `recordedtime` never decreases. The witness is
CLOCK_BOOTTIME: it counts from the machine's start, also while the machine sleeps, and nobody can set it. It is
comparable within one boot only, so each note on disk has the boot's id. See `docs/clock.md`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from eventvault import clock, data_folders, small_files

log = logging.getLogger("EventBus")

MAX_LEAD = 300_000_000
"""How far the clock may get ahead of the witness within one boot, in microseconds."""
MAX_LEAD_AFTER_BOOT = 30 * 86_400_000_000
"""The same at the first reading after a boot, because the machine may have been off for as long."""
SETTLE_AFTER = 3_600_000_000
"""How long a clock that was set back may take to return, in microseconds; after that the new time is believed."""
SAVE_EVERY = 3_600_000_000
"""How old the note on disk may get before it is written again, in microseconds."""
_STEP = 1_000_000
"""A smaller difference from the witness is not a step, and the note on disk need not change."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ClockReading(NamedTuple):
    """Both clocks in microseconds. wall: since 1970. uptime: since the boot."""

    wall: int
    uptime: int


class ClockNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instant (microseconds) that was believed, and the uptime then.

    boot: the id of the boot that `uptime` counts in. confirmed: the clock was believed in that boot; else `instant` is
    of an earlier boot.
    """

    format: Literal[1]
    boot: str
    uptime: int
    instant: int
    confirmed: bool


def read_clocks() -> ClockReading:
    return ClockReading(clock.system_now(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)


def read_boot_id() -> str:
    """Return the id that the kernel chose at boot; empty if it cannot be read, so that each start counts as a boot."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class ClockGuard:
    """Safe to use from many threads. `now` does no input or output; `save` writes the note to disk if it changed."""

    def __init__(
        self,
        storage_dir: Path,
        read: Callable[[], ClockReading] = read_clocks,
        boot_id: Callable[[], str] = read_boot_id,
    ) -> None:
        """Begin with the note in `storage_dir`. If no note can be read, the clock is believed."""
        self._read = read
        self._path = storage_dir / data_folders.CLOCK
        self._lock = threading.Lock()
        self._saved = self._read_note()
        self._note = self._first_note(boot_id())
        self.held_since: int | None = None
        """Since when (microseconds) the clock is ahead and not believed; None if it is believed."""
        self._behind_since: int | None = None
        """The uptime since which the clock is far behind the witness; None if it is not."""
        self.lead = 0
        """By how many microseconds the clock was ahead of the witness at the newest reading; negative: behind."""

    def _read_note(self) -> ClockNote | None:
        try:
            return small_files.read_or_quarantine(self._path, ClockNote)
        except OSError as error:
            log.warning("%s cannot be read, so the system clock is believed: %s", self._path, error)
            return None

    def _first_note(self, boot: str) -> ClockNote:
        wall, uptime = self._read()
        saved = self._saved
        if saved is None:
            return ClockNote(1, boot, uptime, wall, confirmed=True)
        if saved.boot == boot and boot:
            return saved
        return ClockNote(1, boot, uptime, saved.instant, confirmed=False)

    def now(self) -> int:
        """Return the current instant in microseconds since the epoch: the witness's while the clock is not believed."""
        with self._lock:
            wall, uptime = self._read()
            expected = self._note.instant + uptime - self._note.uptime
            self.lead = wall - expected
            if self.lead > (MAX_LEAD if self._note.confirmed else MAX_LEAD_AFTER_BOOT):
                self._hold(expected)
                return expected
            self._release()
            if self.lead >= -MAX_LEAD:
                self._believe(wall, uptime)
            elif self._behind_since is None:
                self._behind_since = uptime
            return wall

    def accept(self) -> None:
        """Believe the present clock, whatever the witness says."""
        with self._lock:
            self._release()
            self._believe(*self._read())

    def settle(self, last_recorded: int) -> None:
        """Believe a clock that was set back an hour ago or earlier, once it has passed the newest event's time.

        Until then the witness does not change, so that a clock that returns is not ahead. last_recorded: microseconds.
        """
        now = self.now()
        with self._lock:
            uptime = self._read().uptime
            passed = self._behind_since is not None and uptime - self._behind_since >= SETTLE_AFTER
            if passed and now >= last_recorded:
                self._believe(*self._read())

    def follow(self) -> None:
        """While the clock differs much from the witness, read the note again and use it.

        The store may have accepted or settled the clock. For the other processes, which never save.
        """
        is_usual = self.held_since is None and self._behind_since is None
        if is_usual or (noted := self._read_note()) is None:
            return
        with self._lock:
            if noted.boot == self._note.boot:
                self._note = noted

    def save(self) -> None:
        """Write the note if a step was believed since, or if it is older than SAVE_EVERY. Raises NoSpace or OSError."""
        with self._lock:
            note, saved = self._note, self._saved
        if saved is None or _differ(note, saved):
            small_files.write(self._path, note)
            self._saved = note

    def _believe(self, wall: int, uptime: int) -> None:
        self._behind_since = None
        self._note = ClockNote(1, self._note.boot, uptime, wall, confirmed=True)

    def _hold(self, expected: int) -> None:
        if self.held_since is None:
            self.held_since = expected
            log.error(
                "the system clock is ahead by %.0f s and is not believed; time goes on at %s",
                self.lead / 1e6,
                clock.format_milliseconds(expected),
            )

    def _release(self) -> None:
        if self.held_since is not None:
            self.held_since = None
            log.info("the system clock is believed again")


def _differ(note: ClockNote, saved: ClockNote) -> bool:
    if (note.boot, note.confirmed) != (saved.boot, saved.confirmed) or note.instant - saved.instant > SAVE_EVERY:
        return True
    return abs((note.instant - note.uptime) - (saved.instant - saved.uptime)) > _STEP
