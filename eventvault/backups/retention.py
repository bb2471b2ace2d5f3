"""Which archives may go: plans, computed from what the catalogue says; nothing is removed here.

Good is an archive with which nothing is known to be wrong. The last good one is never taken away by rotation, nor is
the last of those that were proven good by reading them: an archive that was merely copied in proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventvault.backups.entry import BackupEntry
from eventvault.errors import BackupProtected


def plan_retention(
    entries: Sequence[BackupEntry],
    keep: int,
    busy: Callable[[str], bool] = lambda _name: False,
    *,
    just_made: str | None = None,
    present: str | None = None,
) -> list[str]:
    """Names of the archives that rotation removes, oldest first.

    entries: all archives there are, in any order. keep: how many good ones made here stay, at least 1. busy: whether
    an archive of that name is being read; asked only about those that would go. just_made: stays, although a clock
    that was set back may make it look like the oldest. present: the present generation; what was made in it was made
    after all others, whatever the clock said then.

    Only archives made here are counted and removed. Of those, all go that are older than the `keep` newest good
    ones, damaged ones among them; but none that is pinned, busy, or protected as the last of its kind.
    """
    ours = _newest_first([entry for entry in entries if entry.origin == "created"], present)
    good = [entry for entry in ours if entry.problem is None]
    if keep < 1 or len(good) < keep:
        return []
    oldest_kept = ours.index(good[keep - 1])
    left = list(entries)
    plan = []
    for entry in reversed(ours[oldest_kept + 1 :]):
        if entry.name != just_made and why_protected(left, entry) is None and not busy(entry.name):
            plan.append(entry.name)
            left.remove(entry)
    return plan


def check_deletion(entries: Sequence[BackupEntry], name: str, *, force: bool = False) -> None:
    """Raises BackupProtected where the archive must not be deleted without `force`.

    One that is not among the entries is protected by nothing.
    """
    for entry in entries:
        reason = why_protected(entries, entry) if entry.name == name and not force else None
        if reason is not None:
            raise BackupProtected(
                f"{name} was not deleted: {reason}",
                hint="unpin it, or make another backup first; force=true deletes it all the same",
            )


def why_protected(entries: Sequence[BackupEntry], entry: BackupEntry) -> str | None:
    """Why `entry`, one of all the `entries`, is not to be removed; None where nothing protects it."""
    if entry.pinned:
        return "it is pinned"
    good = [other for other in entries if other.problem is None and other.name != entry.name]
    if entry.problem is None and not good:
        return "it is the last good backup"
    if entry.problem is None and entry.verified is not None and not any(other.verified is not None for other in good):
        return "it is the last backup that was read and found good"
    return None


def _newest_first(entries: Sequence[BackupEntry], present: str | None) -> list[BackupEntry]:
    """By when they were made, but within a generation by what they hold: the clock may have been changed between.

    One of an unknown generation cannot be read; it counts among those of the present one by its time.
    """
    latest: dict[str, int] = {}
    places: dict[str, tuple[bool, int, int]] = {}
    mine = [(each.created, each.sequence or 0) for each in entries if each.generation == present]
    for entry in sorted(entries, key=lambda entry: (entry.sequence or 0, entry.created)):
        if entry.generation is None:
            before = [sequence for created, sequence in mine if created <= entry.created]
            places[entry.name] = (bool(before), max(before, default=0), entry.created)
        elif entry.generation == present:
            places[entry.name] = (True, entry.sequence or 0, entry.created)
        else:
            latest[entry.generation] = max(latest.get(entry.generation, 0), entry.created)
            places[entry.name] = (False, latest[entry.generation], entry.sequence or 0)
    return sorted(entries, key=lambda each: (*places[each.name], each.name), reverse=True)
