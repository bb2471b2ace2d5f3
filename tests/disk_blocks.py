"""Where the bytes of a file lie on its disk, for tests that damage a disk beneath a file system."""

from __future__ import annotations

import fcntl
import struct
from pathlib import Path

_FIEMAP = 0xC020660B
_REQUEST = struct.Struct("=QQLLLL")
_EXTENT = struct.Struct("=QQQQQLLLL")
_SYNC = 1


def disk_offset(path: Path, offset: int) -> int:
    """Return where a byte of the file lies on the disk. Source: Documentation/filesystems/fiemap.rst of Linux."""
    request = bytearray(_REQUEST.pack(offset, 1, _SYNC, 0, 1, 0) + bytes(_EXTENT.size))
    with path.open("rb") as file:
        fcntl.ioctl(file, _FIEMAP, request)
    assert _REQUEST.unpack_from(request)[3] == 1, "the byte lies nowhere on the disk"
    logical, physical, *_ = _EXTENT.unpack_from(request, _REQUEST.size)
    return int(physical + offset - logical)


def flip_on_disk(image: Path, offset: int) -> None:
    """Flip a bit of a disk in a file, on which a file system is mounted."""
    with image.open("r+b") as disk:
        disk.seek(offset)
        (byte,) = disk.read(1)
        disk.seek(offset)
        disk.write(bytes([byte ^ 1]))
