"""The two ways to read an event: each test of a module that imports `road` runs once for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from eventvault.events import ordinary, sent
from eventvault.events.ordinary import OrdinaryEvent
from eventvault.events.sent import AnyEvent
from eventvault.kafka import messages

_read_one = sent.read_one


def _none_of_many(texts: Sequence[bytes]) -> list[OrdinaryEvent | None]:
    return [None] * len(texts)


def _tried_first(text: bytes, what: str = "the body") -> AnyEvent:
    return ordinary.read_many([text])[0] or _read_one(text, what)


@pytest.fixture(scope="module", autouse=True, params=["ordinary", "careful"])
def road(request: pytest.FixtureRequest) -> Iterator[str]:
    """`ordinary`: single events too are first tried as ordinary ones. `careful`: no event is taken for one."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "careful":
            patch.setattr(ordinary, "read_many", _none_of_many)
            patch.setattr(ordinary, "read_complete", _none_of_many)
            patch.setattr(ordinary, "read_array", lambda _: None)
        else:
            patch.setattr(sent, "read_one", _tried_first)
            patch.setattr(messages, "read_one", _tried_first)
        yield request.param
