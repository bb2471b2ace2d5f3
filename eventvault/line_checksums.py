"""JSON lines with a checksum each: if a file is damaged, its undamaged lines can still be used."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable


class LineChecksum:
    """A checksum as the last member of a JSON line. It is computed from the line without this member.

    member: its name. form: a pattern of its value. of: computes the value.
    """

    def __init__(self, member: bytes, form: bytes, of: Callable[[bytes], bytes]) -> None:
        self._of = of
        self._end = b',"%b":"%%b"}\n' % member
        self._checked = re.compile(rb'(.*),"%b":"(%b)"\}\n?' % (member, form), re.DOTALL)

    def line_of(self, text: bytes) -> bytes:
        """Return the line of a JSON object that has members, with its checksum and a line feed."""
        return text[:-1] + self._end % self._of(text)

    def check(self, line: bytes) -> bytes | None:
        """Return the object without its checksum; empty if that is wrong, None if the line has none."""
        match = self._checked.fullmatch(line)
        if match is None:
            return None
        text = match[1] + b"}"
        return text if self._of(text) == match[2] else b""


SHA256 = LineChecksum(
    b"checksum", b"sha256:[0-9a-f]{64}", lambda text: b"sha256:" + hashlib.sha256(text).hexdigest().encode()
)
CRC32 = LineChecksum(b"crc32", b"[0-9a-f]{8}", lambda text: b"%08x" % zlib.crc32(text))
