"""Ports for servers under test are given to one test process only."""

from itertools import islice

import pytest

from tests import ports


def test_no_two_test_processes_are_given_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    for number in range(ports._TEST_PROCESSES):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        given += islice(ports._ports_of_this_process(), len(ports._PORTS) // ports._TEST_PROCESSES)
    assert sorted(given) == list(ports._PORTS)


def test_a_port_is_not_given_again_soon() -> None:
    given = [ports.free_port() for _ in range(100)]
    assert len(set(given)) == len(given)
