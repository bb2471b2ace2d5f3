"""The contents of notifications: problems that begin and end, restores, and the messages made of them."""

from __future__ import annotations

from typing import Literal

import msgspec


class Delivery(msgspec.Struct, frozen=True):
    """One try to deliver a message. address: without its secrets. problem: why it failed; None if it succeeded."""

    address: str
    delivered: bool
    seconds: float
    problem: str | None = None


class Condition(msgspec.Struct, frozen=True):
    """A problem that lasts. about: tells those with the same code apart. since: microseconds."""

    code: str
    about: str
    message: str
    hint: str
    since: int

    @property
    def key(self) -> tuple[str, str]:
        return self.code, self.about


class Change(msgspec.Struct, frozen=True):
    """Something to tell. at: microseconds. since: when the problem began, or the time of the restore."""

    kind: Literal["began", "ended", "restored"]
    code: str
    text: str
    hint: str
    since: int
    at: int


Kind = Literal["failure", "success", "info"]


class Message(msgspec.Struct, frozen=True):
    """created: microseconds. waiting: the places, from 0, of the addresses that did not get it yet."""

    kind: Kind
    title: str
    body: str
    created: int
    waiting: tuple[int, ...]
