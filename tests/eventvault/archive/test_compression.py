"""Each compression gives deflate data of bounded length, and they are ranked by how small it is."""

import os

import pytest

from eventvault.archive import layout
from eventvault.archive.compression import at_least, deflate


@pytest.mark.parametrize("compression", ["fast", "small", "store"])
def test_no_member_is_longer_than_is_read(compression):
    content = os.urandom(layout.CHUNK + layout.BLOCK)
    assert len(deflate(content, compression)) + 18 <= layout.MAX_MEMBER_BYTES


def test_what_is_smaller_may_stand_in_for_what_is_larger():
    assert at_least("small", "fast")
    assert at_least("fast", "store")
    assert not at_least("store", "fast")
    assert not at_least("fast", "small")
