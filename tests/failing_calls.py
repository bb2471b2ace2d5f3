"""Makes the k-th call of the system fail that touches the data folders: a library that is loaded before the C library.

The processes of a store count their calls together, in a file that all of them map. So a run without a fault tells how
many calls there are, and each of them can fail once, without a tracer that slows them down.
"""

from __future__ import annotations

import functools
import mmap
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventvault.settings import Settings
from tests.made_once import folder_until_exit
from tests.service import PROJECT

_SOURCE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

enum { READ_WRITE = 2, SHARED = 1, CLOSE_ON_EXEC = 02000000, FILES = 1 << 16 };
enum { COPY = 0, COPY_CLOSE_ON_EXEC = 1030, GET_LOCK = 5, WAIT_FOR_LOCK = 7, GET_FILE_LOCK = 36, WAIT_FILE_LOCK = 38 };
struct state { int64_t is_armed, count, target, number, waits_for_first, failed_at; char first[256], failed[256]; };

static volatile struct state *state;
static const char *folder;
static char is_ours[FILES];

int open64(const char *, int, ...);
void *mmap64(void *, size_t, int, int, int, off_t);
ssize_t readlink(const char *, char *, size_t);

__attribute__((constructor)) static void prepare(void) {
    const char *path = getenv("EVENTVAULT_TEST_CALLS");
    int file = path ? open64(path, READ_WRITE | CLOSE_ON_EXEC) : -1;
    if (file < 0) return;
    folder = getenv("EVENTVAULT_TEST_FOLDER");
    void *map = mmap64(0, sizeof *state, 3, SHARED, file, 0);
    if (map != (void *)-1 && folder) state = map;
}

static int lies_there(const char *path) { return state && path && !strncmp(path, folder, strlen(folder)); }
static int is_open(int file) { return state && file >= 0 && file < FILES && is_ours[file]; }
static int lies_at(int file, const char *path) { return lies_there(path) || (path && *path != '/' && is_open(file)); }
static int mark(int file, int ours) { if (file >= 0 && file < FILES) is_ours[file] = ours; return file; }

/* `what` is the file, if the call has no path. */
static void describe(char *text, size_t size, const char *call, const char *path, int what) {
    char link[32], name[200] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", what);
    if (!path && readlink(link, name, sizeof name - 1) > 0) path = name;
    snprintf(text, size, "%s of %s", call, path ? path : "a file");
}

static int fails(const char *call, const char *path, int what) {
    if (!state->is_armed) return 0;
    if (state->waits_for_first) {
        char text[256];
        const char *first = (const char *)state->first;
        describe(text, sizeof text, call, path, what);
        if (strncmp(text, first, strlen(first))) return 0;
        if (!__atomic_exchange_n(&state->waits_for_first, 0, __ATOMIC_SEQ_CST)) return 0;
        errno = EIO;
        return 1;
    }
    if (__atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST) != state->target) return 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    state->failed_at = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    describe((char *)state->failed, sizeof state->failed, call, path, what);
    errno = (int)state->number;
    return 1;
}

#define CALL(type, name, parameters, arguments, ours, path, file, failure)  \
    type name parameters {                                                          \
        static type (*real) parameters;                                             \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                  \
        int touches = (ours);                                                       \
        if (touches && fails(#name, path, file)) return failure;                    \
        return real arguments;                                              \
    }
#define BY_PATH(name, parameters, arguments) \
    CALL(int, name, parameters, arguments, lies_there(path), path, -1, -1)
#define BY_FOLDER(name, parameters, arguments) \
    CALL(int, name, parameters, arguments, lies_at(file, path), path, file, -1)
#define BY_FILE(type, name, parameters, arguments) \
    CALL(type, name, parameters, arguments, is_open(file), 0, file, -1)
/* Variadic arguments of these are a word, and the C library takes it as one. */
#define WORD(last) ({ va_list rest; va_start(rest, last); void *word = va_arg(rest, void *); va_end(rest); word; })

#define OPENS(name)                                                                   \
    int name(const char *path, int flags, ...) {                                      \
        static int (*real)(const char *, int, ...);                                   \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                    \
        int touches = lies_there(path);                                               \
        if (touches && fails(#name, path, -1)) return -1;                             \
        return mark(real(path, flags, WORD(flags)), touches);                         \
    }
#define OPENS_AT(name)                                                                \
    int name(int file, const char *path, int flags, ...) {                            \
        static int (*real)(int, const char *, int, ...);                              \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                    \
        int touches = lies_at(file, path);                                            \
        if (touches && fails(#name, path, file)) return -1;                           \
        return mark(real(file, path, flags, WORD(flags)), touches);                   \
    }
#define CONTROLS(name)                                                                \
    int name(int file, int command, ...) {                                            \
        static int (*real)(int, int, ...);                                            \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                    \
        int locks = (command >= GET_LOCK && command <= WAIT_FOR_LOCK)                 \
                    || (command >= GET_FILE_LOCK && command <= WAIT_FILE_LOCK);       \
        if (locks && is_open(file) && fails(#name, 0, file)) return -1;               \
        int result = real(file, command, WORD(command));                              \
        if (command == COPY || command == COPY_CLOSE_ON_EXEC) mark(result, is_open(file)); \
        return result;                                                                \
    }

OPENS(open) OPENS(open64) OPENS_AT(openat) OPENS_AT(openat64) CONTROLS(fcntl) CONTROLS(fcntl64)

BY_PATH(stat, (const char *path, void *about), (path, about))
BY_PATH(stat64, (const char *path, void *about), (path, about))
BY_PATH(lstat, (const char *path, void *about), (path, about))
BY_PATH(lstat64, (const char *path, void *about), (path, about))
BY_PATH(__xstat, (int version, const char *path, void *about), (version, path, about))
BY_PATH(__xstat64, (int version, const char *path, void *about), (version, path, about))
BY_PATH(__lxstat64, (int version, const char *path, void *about), (version, path, about))
BY_PATH(access, (const char *path, int mode), (path, mode))
BY_PATH(chmod, (const char *path, mode_t mode), (path, mode))
BY_PATH(truncate64, (const char *path, off_t size), (path, size))
BY_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
BY_PATH(rmdir, (const char *path), (path))
BY_PATH(unlink, (const char *path), (path))
BY_PATH(rename, (const char *path, const char *target), (path, target))
BY_PATH(link, (const char *path, const char *target), (path, target))
BY_PATH(symlink, (const char *target, const char *path), (target, path))
BY_PATH(statvfs64, (const char *path, void *about), (path, about))
BY_FOLDER(fstatat, (int file, const char *path, void *about, int flags), (file, path, about, flags))
BY_FOLDER(fstatat64, (int file, const char *path, void *about, int flags), (file, path, about, flags))
BY_FOLDER(mkdirat, (int file, const char *path, mode_t mode), (file, path, mode))
BY_FOLDER(unlinkat, (int file, const char *path, int flags), (file, path, flags))
BY_FOLDER(renameat, (int file, const char *path, int other, const char *target), (file, path, other, target))
BY_FOLDER(linkat, (int file, const char *path, int other, const char *target, int flags),
          (file, path, other, target, flags))
BY_FOLDER(utimensat, (int file, const char *path, const void *times, int flags), (file, path, times, flags))
BY_FILE(int, fstat, (int file, void *about), (file, about))
BY_FILE(int, fstat64, (int file, void *about), (file, about))
BY_FILE(int, __fxstat64, (int version, int file, void *about), (version, file, about))
BY_FILE(int, fstatvfs64, (int file, void *about), (file, about))
BY_FILE(int, fchmod, (int file, mode_t mode), (file, mode))
BY_FILE(int, fsync, (int file), (file))
BY_FILE(int, fdatasync, (int file), (file))
BY_FILE(int, ftruncate64, (int file, off_t size), (file, size))
BY_FILE(int, flock, (int file, int how), (file, how))
BY_FILE(ssize_t, read, (int file, void *to, size_t size), (file, to, size))
BY_FILE(ssize_t, pread, (int file, void *to, size_t size, off_t at), (file, to, size, at))
BY_FILE(ssize_t, pread64, (int file, void *to, size_t size, off_t at), (file, to, size, at))
BY_FILE(ssize_t, readv, (int file, const void *parts, int count), (file, parts, count))
BY_FILE(ssize_t, write, (int file, const void *from, size_t size), (file, from, size))
BY_FILE(ssize_t, pwrite64, (int file, const void *from, size_t size, off_t at), (file, from, size, at))
BY_FILE(ssize_t, writev, (int file, const void *parts, int count), (file, parts, count))
BY_FILE(ssize_t, sendfile64, (int file, int from, off_t *at, size_t size), (file, from, at, size))
BY_FILE(ssize_t, copy_file_range, (int file, off_t *at, int to, off_t *there, size_t size, unsigned flags),
        (file, at, to, there, size, flags))
CALL(int, posix_fallocate64, (int file, off_t at, off_t size), (file, at, size), is_open(file), 0, file, errno)
CALL(void *, mmap, (void *to, size_t size, int mode, int flags, int file, off_t at), (to, size, mode, flags, file, at),
     is_open(file), 0, file, (void *)-1)
CALL(void *, mmap64, (void *to, size_t size, int mode, int flags, int file, off_t at),
     (to, size, mode, flags, file, at), is_open(file), 0, file, (void *)-1)

DIR *opendir(const char *path) {
    static DIR *(*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "opendir");
    int touches = lies_there(path);
    if (touches && fails("opendir", path, -1)) return 0;
    DIR *opened = real(path);
    if (opened) mark(dirfd(opened), touches);
    return opened;
}
CALL(DIR *, fdopendir, (int file), (file), is_open(file), 0, file, 0)
CALL(struct dirent *, readdir, (DIR *opened), (opened), is_open(dirfd(opened)), 0, dirfd(opened), 0)
CALL(struct dirent64 *, readdir64, (DIR *opened), (opened), is_open(dirfd(opened)), 0, dirfd(opened), 0)

int closedir(DIR *opened) {
    static int (*real)(DIR *);
    if (!real) real = dlsym(RTLD_NEXT, "closedir");
    mark(dirfd(opened), 0);
    return real(opened);
}
int close(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "close");
    mark(file, 0);
    return real(file);
}
int dup2(int file, int copy) {
    static int (*real)(int, int);
    if (!real) real = dlsym(RTLD_NEXT, "dup2");
    int result = real(file, copy);
    if (result >= 0) mark(result, is_open(file));
    return result;
}
"""
_STATE = struct.Struct("=6q256s256s")
_CHECK = """
import importlib, sys
from eventvault.errors import EventVaultError
from eventvault.settings import load
check, settings = getattr(importlib.import_module(sys.argv[1]), sys.argv[2]), load()
print(flush=True); input()
try:
    check(settings)
except EventVaultError as error:
    print(error.code)
except OSError as error:
    print("error", error.errno)
"""


class FailingCalls:
    """Lets one call fail, in the processes of `command` and their children. folder: whose files count."""

    def __init__(self, folder: Path, own: Path) -> None:
        """own: a folder for a file of this object."""
        path = own / "failing-calls"
        path.write_bytes(bytes(_STATE.size))
        self._environment = [
            f"LD_PRELOAD={_library()}",
            f"EVENTVAULT_TEST_CALLS={path}",
            f"EVENTVAULT_TEST_FOLDER={folder}/",
        ]
        with path.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), _STATE.size)

    def command(self, command: Sequence[str]) -> list[str]:
        return ["env", *self._environment, *command]

    def arm(self, call: int = 0, error: int = 0, *, first: str = "") -> None:
        """Count calls from now on, and let the call of that number fail, unless it is 0.

        first: let the first call that is described so fail too, with EIO, and count from there; such as `fdatasync`, or
        `fcntl of /data/storage/event_registry_db/LOCK`.
        """
        _STATE.pack_into(self._state, 0, 0, 0, call, error, bool(first), 0, first.encode(), b"")
        self._state[0] = 1

    def printed_by(self, script: str, *arguments: object, first: str) -> str:
        """Return what a script of Python prints, in whose process one call fails. first: as for `arm`.

        The call is one behind the line `print(flush=True); input()`.
        """
        command = self.command([sys.executable, "-c", script, *map(str, arguments)])
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stdout is not None
            if process.stdout.readline():
                self.arm(first=first)
            printed, errors = process.communicate("\n", timeout=90)
        self.disarm()
        assert process.returncode == 0, errors
        assert self.has_first_failed, "no call failed"
        return printed.strip()

    def refusal_of(self, check: Callable[[Settings], None], *, first: str) -> str:
        """Return how a check of the settings in the environment ends while one call fails: a code, or `error <errno>`.

        Empty if it refuses nothing. first: as for `arm`.
        """
        return self.printed_by(_CHECK, check.__module__, check.__name__, first=first)

    @property
    def has_first_failed(self) -> bool:
        return not _STATE.unpack_from(self._state, 0)[4]

    def disarm(self) -> tuple[int, str]:
        """Return how many calls were counted, and the one of that number, "" if there were not so many."""
        self._state[0] = 0
        _, count, *_, failed = _STATE.unpack_from(self._state, 0)
        return count, failed.split(b"\0")[0].decode(errors="replace")

    def seconds_since_failure(self) -> float:
        """Return how long ago the call of that number failed."""
        _, _, _, _, _, failed_at, *_ = _STATE.unpack_from(self._state, 0)
        return time.monotonic() - failed_at / 1e9


@functools.cache
def _library() -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed, so no call of a process can be made to fail")
    folder = folder_until_exit("failing-calls-")
    (folder / "calls.c").write_text(_SOURCE)
    library = folder / "calls.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", str(library), str(folder / "calls.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library
