"""The unit for systemd: systemd takes it, and it fits how the service starts, stops and reports a bad setting."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from eventvault.exit_statuses import INVALID_SETTINGS
from eventvault.settings import DECLARATIONS, PROJECT, load

UNIT = PROJECT / "deploy" / "eventvault.service"
PAGE = PROJECT / "docs" / "systemd.md"
NOT_SETTINGS = {"TMPDIR", "PYTHONDONTWRITEBYTECODE"}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze to verify the unit"
)


def values() -> dict[str, str]:
    return dict(re.findall(r"^([A-Z]\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))


def ini(number: int) -> str:
    """A block of the page."""
    return re.findall(r"^```ini\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[number]


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the addition of the page, and a program that is there in the place of the one to be installed."""
    text = UNIT.read_text(encoding="utf-8").replace("/srv/eventvault/.venv/bin/python", "/usr/bin/env")
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("WorkingDirectory=/srv/eventvault", "WorkingDirectory=/"))
    (tmp_path / f"{UNIT.name}.d").mkdir()
    (tmp_path / f"{UNIT.name}.d" / "override.conf").write_text(ini(1))
    return unit


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@needs_systemd
def test_systemd_has_nothing_to_say_against_the_unit(unit: Path) -> None:
    done = analyzed("verify", str(unit))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if UNIT.name in line] == []


@needs_systemd
def test_its_exposure_stays_below_three_of_ten(unit: Path) -> None:
    done = analyzed("security", "--offline=true", "--threshold=30", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a unit that is not loaded")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stop_gives_requests_the_time_that_gunicorn_gives_them() -> None:
    graceful = re.search(r"^graceful_timeout = (\d+)$", (PROJECT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert graceful is not None
    assert int(values()["TimeoutStopSec"]) > int(graceful[1]) + 15
    assert values()["KillMode"] == "mixed"


def test_a_bad_setting_is_not_tried_again() -> None:
    assert values()["RestartPreventExitStatus"] == str(INVALID_SETTINGS)


def test_the_settings_of_the_page_are_allowed() -> None:
    environment = dict(line.split("=", 1) for line in ini(0).splitlines())
    assert environment.keys() - NOT_SETTINGS <= {each.name for each in DECLARATIONS}
    settings = load({name: environment[name] for name in environment.keys() - NOT_SETTINGS})
    assert str(settings.backup_dir) == environment["BACKUP_DIR"]
    assert f"ReadWritePaths={environment['BACKUP_DIR']}\n" in ini(1)
