"""A bounded mapping forgets what was not heard of for longest."""

from __future__ import annotations

from eventvault.recent import Recent


def test_what_was_not_heard_of_for_longest_makes_room() -> None:
    recent: Recent[str, int] = Recent(3)
    for number, name in enumerate("abc"):
        recent.put(name, number)
    recent.touch("a")
    recent.touch("nobody")
    recent.put("d", 3)
    assert recent.items() == [("c", 2), ("a", 0), ("d", 3)]
    recent.put("c", 7)
    recent.put("e", 4)
    assert (recent.get("a"), recent.get("c"), len(recent)) == (None, 7, 3)
    assert (recent.pop("c"), recent.pop("c"), len(recent)) == (7, None, 2)
