"""How many processors may be used: those of the machine, or fewer in a container with a quota."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault import processors

ALL = len(os.sched_getaffinity(0))
Usable = Callable[..., float]


@pytest.fixture
def usable(tmp_path: Path) -> Usable:
    """usable(own group, group=text of its cpu.max, ...): how many may be used then."""

    def of(own: str, **quotas: str) -> float:
        (tmp_path / "groups").mkdir()
        for group, text in quotas.items():
            folder = tmp_path / "groups" / group.replace("__", "/").removeprefix("root")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.max").write_text(text)
        (tmp_path / "own").write_text(own)
        return processors.usable(tmp_path / "own", tmp_path / "groups")

    return of


def test_a_container_sees_its_quota_at_the_root(usable: Usable) -> None:
    assert usable("0::/\n", root="50000 100000\n") == 0.5


@pytest.mark.parametrize("own", ["0::/docker/0123\n", "0::/../../docker/0123\n"])
def test_a_path_of_the_host_that_is_not_there_does_not_hide_the_quota(usable: Usable, own: str) -> None:
    assert usable(own, root="50000 100000\n") == 0.5


def test_the_smallest_quota_around_a_service_counts(usable: Usable) -> None:
    own = "9:name=systemd:/other\n0::/system.slice/eventvault.service\n"
    quotas = {
        "system.slice": "30000 100000",
        "system.slice__eventvault.service": "60000 100000",
        "other": "1000 100000",
    }
    assert usable(own, root="max 100000", **quotas) == 0.3


@pytest.mark.parametrize(
    "quota", ["max 100000\n", f"{100_000 * (ALL + 1)} 100000\n", "", "50000", "none at all", "a b c"]
)
def test_without_a_smaller_quota_it_is_the_processors_of_this_process(usable: Usable, quota: str) -> None:
    assert usable("0::/\n", root=quota) == ALL


def test_where_there_are_no_groups_of_version_2_it_is_the_processors_of_this_process(
    usable: Usable, tmp_path: Path
) -> None:
    assert usable("1:cpu:/\n") == ALL
    assert processors.usable(tmp_path / "none", tmp_path / "none") == ALL
