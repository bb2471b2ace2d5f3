"""What child processes see of this process's environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from eventvault import environment

PROJECT = environment.__file__.rpartition("/eventvault/")[0]


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD", "GITHUB_TOKEN", "API_TOKENS", "path"])
def test_what_is_not_listed_is_not_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "secret")
    assert name not in environment.for_child({})


@pytest.mark.parametrize("name", ["PATH", "TZ", "TMPDIR", "LC_ALL", "PYTHONPATH", "EVENTVAULT_SERVICE", "LD_PRELOAD"])
def test_what_a_program_needs_is_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "value")
    assert environment.for_child({})[name] == "value"


def test_what_is_added_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert environment.for_child({"TZ": "Europe/Berlin", "STORAGE_DIR": "/s"})["TZ"] == "Europe/Berlin"


def test_what_is_handed_over_is_in_the_child_and_in_no_environment() -> None:
    program = (
        "import os, pathlib; from eventvault import environment; environment.receive();"
        "shown = pathlib.Path('/proc/self/environ').read_text(); assert 'geheim' not in shown, shown;"
        "assert environment.SECRETS_VARIABLE not in os.environ; print(os.environ['NOTIFY_URLS'])"
    )
    with environment.hand_over({"NOTIFY_URLS": "ntfy://geheim"}) as descriptor:
        variables = environment.for_child({environment.SECRETS_VARIABLE: str(descriptor)})
        command = [sys.executable, "-c", program]
        ran = subprocess.run(
            command, env=variables, pass_fds=[descriptor], cwd=PROJECT, capture_output=True, text=True, check=True
        )
    assert ran.stdout == "ntfy://geheim\n"


@pytest.mark.parametrize("number", ["", "0", "1", "99999", "x", "-1"])
def test_a_descriptor_that_nobody_handed_over_changes_nothing(number: str) -> None:
    program = "from eventvault import environment; environment.receive(); print('goes on')"
    variables = environment.for_child({environment.SECRETS_VARIABLE: number})
    command = [sys.executable, "-c", program]
    ran = subprocess.run(
        command, env=variables, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "goes on\n"


@pytest.mark.slow
def test_a_hidden_variable_is_in_the_program_and_its_forks_but_not_in_proc() -> None:
    program = """
import os, pathlib, subprocess
from eventvault import environment
assert 'geheim' in pathlib.Path('/proc/self/environ').read_text()
environment.hide(['NOTIFY_URLS', 'MISSING'])
if os.fork() == 0:
    assert 'geheim' not in pathlib.Path('/proc/self/environ').read_text()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert os.environ['NOTIFY_URLS'] == 'ntfy://geheim'
assert 'NOTIFY_URLS=*************' in pathlib.Path('/proc/self/environ').read_text().split(chr(0))
print(subprocess.run(['printenv', 'NOTIFY_URLS'], capture_output=True, text=True).stdout, end='')
os.execv('/bin/sh', ['sh', '-c', 'echo $NOTIFY_URLS $OTHER'])
"""
    variables = {**os.environ, "NOTIFY_URLS": "ntfy://geheim", "OTHER": "stays"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=variables, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (ran.stderr, ran.stdout) == ("", "ntfy://geheim\nntfy://geheim stays\n")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "no_proxy"])
def test_a_proxy_is_handed_over_and_not_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://user:word@proxy")
    assert environment.proxies()[name] == "http://user:word@proxy"
    assert name not in environment.for_child({})
