"""What the tests mount is unmounted again, and no loop device stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import mounts, processes

pytestmark = pytest.mark.root

MOUNT_AND_WAIT = """
import sys, time
from pathlib import Path
from tests.mounts import mount
with mount(sys.argv[1], Path(sys.argv[2])):
    print("mounted", flush=True)
    time.sleep(60)
"""


def loop_devices(folder: Path) -> str:
    """Loop devices of files in `folder`: other tests have theirs."""
    listed = subprocess.run(["/usr/sbin/losetup", "-a"], capture_output=True, text=True, check=False).stdout
    return "\n".join(line for line in listed.splitlines() if str(folder) in line)


def fail_on(kind: str, folder: Path) -> None:
    with mounts.mount(kind, folder) as mount_point:
        assert mount_point.is_mount()
        (mount_point / "file").write_bytes(b"content")
        raise ZeroDivisionError


@pytest.mark.slow
@pytest.mark.parametrize("kind", mounts.KINDS)
def test_a_mount_is_gone_after_a_test_that_failed(tmp_path: Path, kind: str) -> None:
    with pytest.raises((ZeroDivisionError, mounts.CannotMount)) as failure:
        fail_on(kind, tmp_path)
    if failure.type is mounts.CannotMount:
        pytest.skip(str(failure.value))

    assert not (tmp_path / "mount").is_mount()
    processes.wait_until(lambda: not loop_devices(tmp_path), f"loop devices: {loop_devices(tmp_path)}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "limited"])
def test_a_mount_is_gone_after_its_process_was_killed(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-c", MOUNT_AND_WAIT, kind, str(tmp_path)]
    with subprocess.Popen(command, cwd=mounts.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        mounted = process.stdout.readline()
        process.kill()
        if not mounted and b"CannotMount" in (reason := process.stderr.read()):
            pytest.skip(reason.decode()[-300:])
    assert mounted == b"mounted\n"

    processes.wait_until(lambda: not (tmp_path / "mount").is_mount(), "it is still mounted")
    processes.wait_until(lambda: not loop_devices(tmp_path), f"loop devices: {loop_devices(tmp_path)}")
