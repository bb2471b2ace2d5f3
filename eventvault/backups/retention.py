"""The retention rule: which archives may be removed. The plan comes from the catalogue; nothing is removed here.

An archive is good if it is proven and no problem of it is known. Rotation never removes the last good archive, nor the
last one that was verified: an archive that was only copied in may be unreadable, and what is not proven gives its
events only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventvault import clock
from eventvault.backups.entry import BackupEntry
from eventvault.backups.order import newest_first
from eventvault.errors import BackupProtected, InvalidInput


def plan_retention(
    entries: Sequence[BackupEntry],
    keep: int,
    busy: Callable[[str], bool] = lambda _name: False,
    *,
    just_made: str | None = None,
    generations: Sequence[str] = (),
) -> list[str]:
    """Return the names of the archives that rotation removes, oldest first.

    entries: all archives, in any order. keep: how many good archives made here stay, at least 1. busy: returns True
    for an archive that is being read; called only for removable ones. just_made: stays, although it looks like the
    oldest if the clock was set back. generations: those of the open database, oldest first; they decide which
    archive is newer, whatever the clock was.

    Only archives that are proven to be made here are counted and removed. Those older than the `keep` newest good ones
    are removed, damaged ones included, unless they are pinned, busy, or protected as the last of their kind.
    """
    ours = newest_first([entry for entry in entries if _counts(entry)], generations)
    good = [entry for entry in ours if entry.problem is None]
    if keep < 1 or len(good) < keep:
        return []
    oldest_retained = ours.index(good[keep - 1])
    remaining = list(entries)
    plan = []
    for entry in reversed(ours[oldest_retained + 1 :]):
        if entry.name != just_made and why_protected(remaining, entry) is None and not busy(entry.name):
            plan.append(entry.name)
            remaining.remove(entry)
    return plan


def _counts(entry: BackupEntry) -> bool:
    # What the catalogue once attributed to this installation may be proven no longer, as after another key.
    return entry.origin == "created" and entry.is_ours


def check_deletion(entries: Sequence[BackupEntry], name: str, *, force: bool = False) -> None:
    """Raise BackupProtected if this archive must not be deleted without `force`; an unknown one may be."""
    for entry in entries:
        reason = why_protected(entries, entry) if entry.name == name and not force else None
        if reason is not None:
            raise BackupProtected(
                f"{name} was not deleted: {reason}",
                hint="unpin it or make another backup first, or delete it with force=true",
            )


def check_end_of_pin(until: int | None, now: int) -> None:
    """Raise InvalidInput for a pin that would be over at once. until, now: microseconds."""
    if until is not None and until <= now:
        raise InvalidInput(
            f"the pin would end at {clock.format_milliseconds(until)}, which is over; nothing was changed",
            hint="name a later instant, or leave `until` out for a pin that does not end by itself",
            fields={"until": ["This instant is over."]},
        )


def why_protected(entries: Sequence[BackupEntry], entry: BackupEntry) -> str | None:
    """Return why `entry`, one of `entries`, must not be removed; None if nothing protects it."""
    if entry.pinned:
        return "it is pinned"
    others = [other for other in entries if other.problem is None and other.name != entry.name]
    good = [other for other in others if other.origin_proven] if entry.origin_proven else others
    if entry.problem is None and not good:
        return "it is the last good backup" + (" that is proven" if others else "")
    if entry.problem is None and entry.verified is not None and not any(other.verified is not None for other in good):
        return "it is the last backup that was read and found good"
    return None
