"""Audits for tests: a chain in two folders, and what is done to its files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventvault.audit.chain import Chain, files_of
from eventvault.audit.lines import DONE, ENDED, AuditEntry, AuditLine, decode_line, entry_now
from eventvault.audit.verification import Verified, verify


def entry(number: int, month: str = "2026-01", **members: object) -> AuditEntry:
    """The entry number `number`, of a month."""
    made = entry_now(operation=f"{number:016x}", state=ENDED, action="pin", who="tester", target="a", result=DONE)
    return msgspec.structs.replace(made, at=f"{month}-01T00:00:00.{number:06d}Z", **members)


class Audit:
    """folder: of both folders."""

    def __init__(self, folder: Path) -> None:
        self.storage, self.backups = folder / "storage", folder / "backups"
        for each in (self.storage, self.backups):
            each.mkdir(exist_ok=True)
        self.folder = self.backups / "audit"
        self.note = self.storage / "audit.json"
        self.chain = self.anew()

    def anew(self) -> Chain:
        """The chain of another process."""
        self.chain = Chain(self.storage, self.backups)
        return self.chain

    def fill(self, *months: str, each: int = 4) -> None:
        for number, month in enumerate(months):
            self.chain.append([entry(number * each + place, month) for place in range(each)])

    def verify(self) -> Verified:
        return verify(self.storage, self.backups)

    def raw(self) -> list[bytes]:
        """All lines as they are in the files."""
        return [raw for path in files_of(self.folder) for raw in path.read_bytes().splitlines(keepends=True)]

    def lines(self) -> list[AuditLine]:
        return [line for raw in self.raw() if (line := decode_line(raw)) is not None]

    def about_audit(self) -> list[dict[str, object]]:
        """What lines about the audit itself name."""
        return [line.details for line in self.lines() if line.action == "audit"]

    def replace(self, raw: list[bytes]) -> None:
        """Put other lines into the files, as many into each but the newest as it has."""
        paths = files_of(self.folder)
        for path in paths:
            count = len(path.read_bytes().splitlines()) if path is not paths[-1] else len(raw)
            path.write_bytes(b"".join(raw[:count]))
            raw = raw[count:]
