"""`python -m worker.nursery`: imports the modules with handlers, and forks executors, which then have them already.

The supervisor starts it as a program of its own. So an executor has nothing of the supervisor: neither its environment
nor a Kafka client, whose threads would make a fork unsafe. Over a socket the nursery receives requests to fork, and
reports the end of each executor. When the supervisor ends, for any reason, the nursery ends all executors.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import msgspec

from eventvault.exit_statuses import CRASHED, DONE, FAILED
from eventvault.orphans import end_with_parent
from eventvault.printable import encodable
from worker import executor, jobs, registry
from worker.descendants import adopt_orphans, children, has_ended
from worker.protocol import (
    END_OF_CATALOGUE,
    LONGEST_MESSAGE,
    PATH_VARIABLE,
    PING,
    Alive,
    Declared,
    Ended,
    Forked,
    NurseryOptions,
    NurseryReport,
    worker_name,
)

_WAIT_SECONDS = 60.0
_END_SECONDS = 2.0
_LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


class Nursery:
    def __init__(self, control: socket.socket, memory: int) -> None:
        self._control = control
        self._memory = memory
        self._process = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._executors: dict[int, tuple[int, int]] = {}
        """Descriptor of the process → its id, and the supervisor's number for it."""
        self._processes_of_modules = children()
        """Processes that the modules have started; they are not ended."""

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select(_WAIT_SECONDS):
                if key.fileobj is not self._control:
                    self._reap(key.fd)
                elif not self._serve_request():
                    self._end_all()
                    return

    def _serve_request(self) -> bool:
        """Fork an executor, or answer a ping. Returns False if the supervisor is gone."""
        try:
            number, descriptors, _, _ = socket.recv_fds(self._control, LONGEST_MESSAGE, 2)
        except ConnectionError:
            return False
        if number == PING:
            self._report(Alive())
            return True
        if len(descriptors) != 2:
            return False
        connection, output = descriptors
        self._flush()
        process = os.fork()
        if process == 0:
            self._become_executor(connection, output)
        os.close(connection)
        os.close(output)
        handle = os.pidfd_open(process)
        self._executors[handle] = process, int(number)
        self._selector.register(handle, selectors.EVENT_READ)
        self._report(Forked(int(number)), handle)
        return True

    def _report(self, report: NurseryReport, *handles: int) -> None:
        with suppress(OSError):  # the supervisor is gone
            socket.send_fds(self._control, [msgspec.json.encode(report)], handles)

    def _become_executor(self, connection: int, output: int) -> NoReturn:
        """Run as an executor, in the child. First close everything that belongs to its siblings."""
        try:
            end_with_parent(self._process)
            os.setsid()
            self._selector.close()
            self._control.close()
            for handle in self._executors:
                os.close(handle)
            executor.main(socket.socket(fileno=connection), output, self._memory)
        except BaseException:  # noqa: BLE001 - this process ends here, after any error
            traceback.print_exc()
        finally:
            os._exit(CRASHED)

    def _reap(self, handle: int) -> None:
        """End the processes that an executor has started, then wait for the executor and report its end."""
        process, number = self._executors.pop(handle)
        self._selector.unregister(handle)
        os.close(handle)
        _kill_group(process)
        self._end_orphans(process)
        _, status = os.waitpid(process, os.WNOHANG)
        self._report(Ended(number, status))

    def _end_orphans(self, *others: int) -> None:
        """Kill the orphans that this process has adopted, even if they have left their group. others: not to kill."""
        spared = {*others, *(process for process, _ in self._executors.values())} | self._processes_of_modules
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline:
            orphans = [child for child in children() - spared if not has_ended(child)]
            if not orphans:
                return
            for child in orphans:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.001)

    def _end_all(self) -> None:
        for process, _ in self._executors.values():
            _kill_group(process)
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._executors.clear()
        self._end_orphans()

    @staticmethod
    def _flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a module may have closed it
                stream.flush()


def _kill_group(process: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def main(argument: str) -> int:
    options = msgspec.json.decode(argument, type=NurseryOptions)
    end_with_parent(options.parent)
    os.environ.pop(PATH_VARIABLE, None)
    if options.path_of_handlers is not None:
        os.environ[PATH_VARIABLE] = options.path_of_handlers
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    jobs.WORKER_NAME = worker_name(options.parent)
    logging.basicConfig(level=options.log_level.upper(), format=_LOG_FORMAT)
    declared = _import_modules(options.modules)
    _write(options.catalogue, msgspec.json.encode(declared) + END_OF_CATALOGUE)
    if declared.error is not None:
        return FAILED
    adopt_orphans()
    gc.collect()
    gc.freeze()  # so that the executors share the memory of what is loaded now
    end_with_parent(options.parent, 0)  # from now on the socket shows the parent's end, and executors are ended first
    Nursery(socket.socket(fileno=options.control), options.memory).run()
    return DONE


def _write(handle: int, text: bytes) -> None:
    with suppress(BrokenPipeError):
        while text:
            text = text[os.write(handle, text) :]
    os.close(handle)


def _import_modules(modules: Sequence[str]) -> Declared:
    """Return what the modules declare, or why one of them cannot be imported."""
    name = ""
    try:
        for name in modules:
            importlib.import_module(name)
        catalogue = registry.catalogue()
    except BaseException as error:  # noqa: BLE001 - the supervisor reports it
        if not (isinstance(error, ModuleNotFoundError) and error.name == name):
            traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        return Declared(error=encodable(f"the module {name} with job handlers cannot be imported: {reason}"))
    return Declared(catalogue.types, catalogue.schedules)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
