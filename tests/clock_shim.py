"""Sets the system clock of the processes of one service, without root: a library that is loaded before the C library.

CLOCK_REALTIME and what is read from it are moved by an offset in a file that all processes of the service map. The
monotonic clock and the time since the boot are not moved, as on a machine whose clock is set.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.made_once import folder_until_exit

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*system_clock)(clockid_t, struct timespec *);
static volatile int64_t *offset;

__attribute__((constructor)) static void prepare(void) {
    const char *path = getenv("EVENTVAULT_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    system_clock = dlsym(RTLD_NEXT, "clock_gettime");
    if (file >= 0) {
        void *map = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
        if (map != MAP_FAILED) offset = map;
        close(file);
    }
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = system_clock(id, now);
    if (!result && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (result) *result = exact.tv_sec;
    return exact.tv_sec;
}
"""


class SettableClock:
    """environment: for the processes whose clock `set_offset` moves."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock-offset"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(_library()), "EVENTVAULT_TEST_CLOCK": str(self._file)}

    def set_offset(self, seconds: int) -> None:
        """Move the clock to so many seconds from the machine's own."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


@functools.cache
def _library() -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed, so the clock of a process cannot be set")
    folder = folder_until_exit("clock-shim-")
    (folder / "shim.c").write_text(_SOURCE)
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(folder / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library
