"""The container's files keep their promises. They are only read, because a container engine is not always available."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventvault import settings
from eventvault.access.proxies import TrustedProxies

PROJECT = settings.PROJECT
GUIDE = {
    "AUTO_BACKUP_ENABLED": "true",
    "AUTO_RESTORE_ENABLED": "true",
    "AUTO_BACKUP_INTERVAL": "3600000",
    "MAX_BACKUPS": "10",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(interpolated((PROJECT / "docker-compose.yml").read_text()))
    return found


def interpolated(text: str, **environment: str) -> str:
    """Return the text as compose reads it with these variables in `.env`."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1], match[2]), text)


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    return instructions("Dockerfile")


def instructions(path: str) -> list[tuple[str, str]]:
    """Return the instructions in order: (name, arguments on one line)."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (PROJECT / path).read_text()).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def arguments(dockerfile: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for instruction, rest in dockerfile if instruction == name]


def sources(dockerfile: list[tuple[str, str]]) -> set[str]:
    """Return what is copied from the checkout."""
    copies = (rest for rest in arguments(dockerfile, "COPY") if not rest.startswith("--from"))
    return {source for rest in copies for source in rest.split()[:-1]}


def last_stage(dockerfile: list[tuple[str, str]]) -> list[tuple[str, str]]:
    start = max(number for number, (name, _) in enumerate(dockerfile) if name == "FROM")
    return dockerfile[start:]


def test_compose_has_the_service_a_worker_kafka_and_nginx_in_front(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"app", "worker", "kafka", "nginx"}


def test_compose_has_the_four_settings_of_the_guide_as_printed(compose: dict[str, Any]) -> None:
    environment = compose["services"]["app"]["environment"]
    assert {name: environment[name] for name in GUIDE} == GUIDE


def test_every_setting_in_compose_is_a_setting_and_valid(compose: dict[str, Any]) -> None:
    names = {each.name for each in settings.DECLARATIONS}
    for service in ("app", "worker"):
        environment = compose["services"][service]["environment"]
        assert set(environment) <= names
        assert all(isinstance(value, str) for value in environment.values()), "numbers and booleans need quotes"
        settings.load(environment)


def test_a_lost_volume_is_recovered_from_the_backups(compose: dict[str, Any]) -> None:
    assert settings.load(compose["services"]["app"]["environment"]).auto_recover == "true"


def test_only_nginx_is_published_and_on_loopback_only(compose: dict[str, Any]) -> None:
    published = {name: each["ports"] for name, each in compose["services"].items() if "ports" in each}
    assert published == {"nginx": ["127.0.0.1:5050:5050", "127.0.0.1:5443:5443"]}
    assert not any(each.get("network_mode") for each in compose["services"].values())


def test_only_tls_can_be_opened_to_other_machines() -> None:
    text = interpolated((PROJECT / "docker-compose.yml").read_text(), TLS_ADDRESS="0.0.0.0")
    assert yaml.safe_load(text)["services"]["nginx"]["ports"] == ["127.0.0.1:5050:5050", "0.0.0.0:5443:5443"]


def test_nobody_gets_in_without_a_token(compose: dict[str, Any]) -> None:
    assert settings.load(compose["services"]["app"]["environment"]).allow_unauthenticated is False


@pytest.mark.parametrize("address", ["172.18.0.4", "192.168.16.3", "10.1.2.3"])
def test_the_address_that_nginx_saw_counts_for_the_service(compose: dict[str, Any], address: str) -> None:
    names = settings.load(compose["services"]["app"]["environment"]).trusted_proxies
    assert TrustedProxies(names).client(address, "203.0.113.7", "https") == ("203.0.113.7", "https")


def test_no_secret_is_in_the_definition_of_a_container(compose: dict[str, Any]) -> None:
    """`docker inspect` shows whatever is in the environment."""
    secret = {each.name for each in settings.DECLARATIONS if each.secret}
    for service in compose["services"].values():
        assert not secret & set(service.get("environment", {}))


def test_the_database_lies_in_a_named_volume_and_the_archives_on_the_host(compose: dict[str, Any]) -> None:
    assert compose["services"]["app"]["volumes"] == [
        "storage:/usr/src/app/storage",
        "./backups:/usr/src/app/backups",
        "./restore:/usr/src/app/restore",
    ]
    assert "storage" in compose["volumes"]


def test_the_worker_runs_the_job_loop_and_has_no_data(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert worker["command"] == ["python", "-m", "worker"]
    assert "volumes" not in worker
    assert worker["environment"]["KAFKA_BOOTSTRAP_SERVERS"]


def test_process_1_reaps_children_in_our_containers(compose: dict[str, Any]) -> None:
    assert all(compose["services"][name]["init"] is True for name in ("app", "worker"))


def test_kafka_is_the_official_image_without_zookeeper_and_of_the_version_that_is_tested(
    compose: dict[str, Any],
) -> None:
    kafka = compose["services"]["kafka"]
    image, _, version = kafka["image"].partition(":")
    assert image == "apache/kafka"
    assert f">{version}<" in (PROJECT / "tests" / "pom.xml").read_text()
    assert kafka["environment"]["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert "kafka:/var/lib/kafka/data" in kafka["volumes"]
    assert kafka["environment"]["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


def test_nginx_runs_with_the_configuration_that_is_tested(compose: dict[str, Any]) -> None:
    nginx = compose["services"]["nginx"]
    assert nginx["build"] == {"context": ".", "dockerfile": "deploy/nginx.Dockerfile"}
    assert nginx["volumes"] == ["./certificates:/etc/nginx/certificates:ro"]
    assert ("COPY", "deploy/nginx.conf /etc/nginx/nginx.conf") in instructions("deploy/nginx.Dockerfile")


def test_app_and_worker_are_one_image_that_is_built_once_and_never_pulled(compose: dict[str, Any]) -> None:
    app, worker = compose["services"]["app"], compose["services"]["worker"]
    assert app["image"] == worker["image"]
    assert "build" in app
    assert "build" not in worker
    assert worker["pull_policy"] == "never"
    assert "app" in worker["depends_on"]


def test_a_container_can_do_no_more_than_it_needs(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"] >= 256, name
    entrypoint = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    added = {name: set(service.get("cap_add", [])) for name, service in compose["services"].items()}
    assert added == {"app": entrypoint, "worker": set(), "kafka": set(), "nginx": set()}


def test_our_images_have_nothing_to_write_to_but_their_volumes_and_tmp(compose: dict[str, Any]) -> None:
    for name in ("app", "worker", "nginx"):
        service = compose["services"][name]
        assert service["read_only"] is True, name
        assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"], name


def test_nginx_has_a_user_of_its_own(compose: dict[str, Any]) -> None:
    assert compose["services"]["nginx"]["user"] == "nginx"
    assert ("USER", "nginx") in instructions("deploy/nginx.Dockerfile")


def test_no_log_grows_without_end(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        options = service["logging"]["options"]
        assert re.fullmatch(r"\d+m", options["max-size"]), name
        assert int(options["max-file"]) > 1, name


def test_the_worker_has_a_health_check_of_its_own(compose: dict[str, Any]) -> None:
    check = compose["services"]["worker"]["healthcheck"]
    assert check["test"] == ["CMD", "python", "-m", "worker.heartbeat"]
    assert not any(service.get("healthcheck", {}).get("disable") for service in compose["services"].values())


def test_a_first_start_makes_the_topics_that_it_needs(compose: dict[str, Any]) -> None:
    for name in ("app", "worker"):
        assert settings.load(compose["services"][name]["environment"]).kafka_create_topics is True
    assert settings.load({}).kafka_create_topics is False


def test_kafka_has_a_listener_for_programs_on_this_machine(compose: dict[str, Any]) -> None:
    environment = compose["services"]["kafka"]["environment"]
    listeners = dict(listener.split("://") for listener in environment["KAFKA_LISTENERS"].split(","))
    advertised = dict(listener.split("://") for listener in environment["KAFKA_ADVERTISED_LISTENERS"].split(","))
    protocols = dict(pair.split(":") for pair in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert advertised == {"PLAINTEXT": "kafka:9092", "HOST": "localhost:29092"}
    assert listeners.keys() == protocols.keys() == {*advertised, "CONTROLLER"}


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/nginx.Dockerfile"])
def test_a_build_fetches_nothing_that_it_does_not_need(path: str) -> None:
    assert "syntax=" not in (PROJECT / path).read_text()


def test_the_build_takes_a_package_index(compose: dict[str, Any], dockerfile: list[tuple[str, str]]) -> None:
    arguments_of = {rest.partition("=")[0] for rest in arguments(dockerfile, "ARG")}
    assert arguments_of == {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"}
    assert set(compose["services"]["app"]["build"]["args"]) == arguments_of
    text = (PROJECT / "docker-compose.yml").read_text()
    assert all(f"{name}: ${{{name}:-}}\n" in text for name in arguments_of)
    names = [name for name, _ in last_stage(dockerfile)]
    assert "ARG" not in names, "an address with a password must not stay in the image"


def test_modes_do_not_come_from_the_checkout(dockerfile: list[tuple[str, str]]) -> None:
    runs = " ".join(arguments(last_stage(dockerfile), "RUN"))
    assert "chmod 0755 /usr/local/bin/eventvault-entrypoint" in runs
    (modes,) = re.findall(r"chmod -R u=rwX,go=rX ([^&]+)", runs)
    copied = {source for source in sources(last_stage(dockerfile)) if source != "deploy/entrypoint"}
    assert set(modes.split()) == copied
    assert ("RUN", "chmod 0644 /etc/nginx/nginx.conf") in instructions("deploy/nginx.Dockerfile")


def test_line_endings_stay_as_they_are_in_the_repository() -> None:
    asked = ["deploy/entrypoint", "docker-compose.yml", "worker/supervisor.py", "tests/fixtures/node/in_storage.tar.gz"]
    if not (PROJECT / ".git").exists():
        pytest.skip("this is no checkout")
    command = ["git", "check-attr", "eol", "text", "--", *asked]
    answer = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert answer.count("eol: lf") == len(asked)
    assert f"{asked[-1]}: text: unset" in answer
    assert b"\r" not in (PROJECT / asked[0]).read_bytes()


def test_the_service_needs_no_broker_to_start(compose: dict[str, Any]) -> None:
    assert "depends_on" not in compose["services"]["app"]


def test_every_image_has_a_version(compose: dict[str, Any], dockerfile: list[tuple[str, str]]) -> None:
    images = [each["image"] for each in compose["services"].values() if "build" not in each]
    images += [rest.split()[0] for rest in arguments(dockerfile, "FROM")]
    images += arguments(instructions("deploy/nginx.Dockerfile"), "FROM")
    images = [image for image in images if image != compose["services"]["app"]["image"]]
    assert all(re.search(r":\d+\.\d+", image) for image in images), images


def test_a_stop_has_time_to_drain(compose: dict[str, Any]) -> None:
    assert all(compose["services"][name]["stop_grace_period"] == "90s" for name in ("app", "worker"))


def test_the_image_is_built_in_stages_and_starts_as_an_ordinary_user(dockerfile: list[tuple[str, str]]) -> None:
    assert len(arguments(dockerfile, "FROM")) == 2
    assert arguments(last_stage(dockerfile), "USER") == ["eventvault"]
    assert arguments(last_stage(dockerfile), "WORKDIR") == ["/usr/src/app"]
    assert arguments(last_stage(dockerfile), "CMD") == ['["python", "-m", "app"]']


def test_the_image_has_a_health_check_of_the_service(dockerfile: list[tuple[str, str]]) -> None:
    (check,) = arguments(last_stage(dockerfile), "HEALTHCHECK")
    assert "/api/health/live" in check


def test_the_packages_in_the_image_are_those_of_the_lock_with_their_hashes(dockerfile: list[tuple[str, str]]) -> None:
    assert any("--require-hashes" in rest and "requirements.txt" in rest for rest in arguments(dockerfile, "RUN"))


def test_an_image_without_further_settings_allows_no_unauthenticated_access() -> None:
    assert "ALLOW_UNAUTHENTICATED" not in (PROJECT / "Dockerfile").read_text()


def test_the_image_has_every_package_of_the_service(
    dockerfile: list[tuple[str, str]],
) -> None:
    copied = sources(dockerfile)
    assert {"eventvault", "app", "worker", "wsgi.py", "gunicorn.conf.py"} <= copied
    assert all((PROJECT / source).exists() for source in copied), copied
    sent = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == copied | sources(instructions("deploy/nginx.Dockerfile"))


class TestEntrypoint:
    """`deploy/entrypoint`, run for real."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> dict[str, str]:
        tmp_path.chmod(0o755)
        names = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
        for name in names.values():
            (tmp_path / name).mkdir()
            (tmp_path / name / "entry").write_text("x")
        return {setting: str(tmp_path / name) for setting, name in names.items()}

    def run(
        self,
        folders: dict[str, str],
        *,
        path: str = "",
        command: str = "id -u; id -g",
        script: Path = PROJECT / "deploy" / "entrypoint",
    ) -> list[str]:
        environment = {**os.environ, **folders, "PATH": f"{path}:{os.environ['PATH']}"}
        outcome = subprocess.run(
            [script, "sh", "-c", command],
            env=environment, capture_output=True, text=True, check=True, cwd="/",
        )  # fmt: skip
        return outcome.stdout.split()

    @pytest.mark.root
    @pytest.mark.skipif(os.getuid() != 0, reason="needs root")
    def test_root_becomes_the_owner_of_the_hosts_backups_and_gives_it_all_three_folders(
        self, folders: dict[str, str]
    ) -> None:
        os.chown(folders["BACKUP_DIR"], 12345, 12346)
        assert self.run(folders) == ["12345", "12346"]
        for folder in folders.values():
            for path in (Path(folder), Path(folder) / "entry"):
                assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)

    @pytest.mark.root
    @pytest.mark.skipif(os.getuid() != 0, reason="needs root")
    def test_where_root_owns_the_backups_the_images_own_user_gets_them(
        self, folders: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "bin").mkdir()
        stand_in = tmp_path / "bin" / "id"
        stand_in.write_text('#!/bin/sh\n[ "$2" = eventvault ] && echo 4242 && exit\nexec /usr/bin/id "$@"\n')
        stand_in.chmod(0o755)
        assert self.run(folders, path=str(tmp_path / "bin"), command="/usr/bin/id -u") == ["4242"]
        assert all(Path(folder).stat().st_uid == 4242 for folder in folders.values())

    @pytest.mark.root
    @pytest.mark.skipif(os.getuid() != 0, reason="needs root")
    def test_a_link_in_a_folder_is_not_followed(self, folders: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("x")
        (Path(folders["RESTORE_DIR"]) / "link").symlink_to(tmp_path / "secret")
        os.chown(folders["BACKUP_DIR"], 12345, 12345)
        self.run(folders)
        assert (tmp_path / "secret").stat().st_uid == 0

    def test_a_docker_secret_becomes_the_setting_of_its_name_and_nothing_else_does(
        self, folders: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "PING_URL").write_text("https://user:a b$c@example.com/ping\n")
        (tmp_path / "secrets" / "PATH").write_text("/nowhere")
        script = tmp_path / "entrypoint"
        script.write_text(
            (PROJECT / "deploy" / "entrypoint").read_text().replace("/run/secrets", f"{tmp_path}/secrets")
        )
        script.chmod(0o755)
        if os.getuid() == 0:
            os.chown(folders["BACKUP_DIR"], 12345, 12346)
        shown = 'printf "%s|%s" "$PING_URL" "${NOTIFY_URLS-unset}"'
        assert " ".join(self.run(folders, command=shown, script=script)) == "https://user:a b$c@example.com/ping|unset"

    def test_the_command_is_run_with_its_arguments_and_its_status_is_handed_on(self, folders: dict[str, str]) -> None:
        if os.getuid() == 0:
            os.chown(folders["BACKUP_DIR"], 12345, 12346)
        with pytest.raises(subprocess.CalledProcessError) as caught:
            self.run(folders, command="exit 78")
        assert caught.value.returncode == 78
