"""The settings, declared once: validation, `docs/settings.md` and `.env.example` are made from `DECLARATIONS`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from eventvault import data_folders, notify_addresses, token_text, topic_names
from eventvault.errors import InvalidSettings
from eventvault.files import make_folder
from eventvault.printable import is_utf8, printable
from eventvault.schedules import CRON_ALLOWED, ZONE_ALLOWED, Cron, parse_zone
from eventvault.topic_names import EventsTopics, topic_name

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of `wsgi.py`; relative data folders are resolved against it."""

_BOOLEANS = {
    "true": True, "1": True, "yes": True, "on": True,
    "false": False, "0": False, "no": False, "off": False,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Converts a setting's text to a value; `parse` raises ValueError for a text that is not allowed.

    show: returns the text for an error, without what is secret in it.
    """

    parse: Callable[[str], Any]
    allowed: str
    show: Callable[[str], str] = repr
    unit: Literal["ms", "bytes"] | None = None


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _whole(minimum: int, maximum: int, unit: Literal["ms", "bytes"] | None = None) -> Kind:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not minimum <= int(text) <= maximum:
            raise ValueError(text)
        return int(text)

    return Kind(parse, f"a whole number from {minimum} to {maximum}{f' ({unit})' if unit else ''}", unit=unit)


def _choice(*values: str, spelled: Callable[[str], str] = str.lower) -> Kind:
    """Accept one of these values, in capital or small letters. spelled: converts a text to the values' spelling."""

    def parse(text: str) -> str:
        if spelled(text) not in values:
            raise ValueError(text)
        return spelled(text)

    return Kind(parse, " or ".join([", ".join(values[:-1]), values[-1]]))


def _path(text: str) -> Path:
    try:
        path = (PROJECT / Path(text).expanduser()).resolve()
    except RuntimeError as error:  # the home of an unknown user, or a loop of links
        raise ValueError(text) from error
    if not is_utf8(str(path)):  # a link leads there, or EventVault itself lies there
        raise ValueError(text)
    return path


def _recover(text: str) -> str:
    if text.lower() == "empty":
        return "empty"
    return "true" if _boolean(text) else "false"


def _servers(text: str) -> str:
    for server in text.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(text)
    return ",".join(server.strip() for server in text.split(","))


@dataclass(frozen=True)
class Address:
    """The address of a listener. Raises ValueError for a text that is not host and port."""

    text: str
    host: str = field(init=False, compare=False)
    port: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        host, _, port = _servers(self.text).rpartition(":")
        object.__setattr__(self, "host", _host(host.strip("[]")))
        object.__setattr__(self, "port", int(port))

    def __str__(self) -> str:
        return self.text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", text):
        raise ValueError(text)
    return text


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words or any(re.search(r"\s", word) for word in words):
        raise ValueError(text)
    return words


def _module_names(text: str) -> tuple[str, ...]:
    names = _words(text)
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError(text)
    return names


def _variable_names(text: str) -> tuple[str, ...]:
    names = _words(text)
    if any("=" in name for name in names):
        raise ValueError(text)
    return names


def _proxies(text: str) -> tuple[str, ...]:
    return tuple(word if word == "unix" else str(ip_network(word)) for word in _words(text))


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ip_network(word)) for word in _words(text))


def _notify_urls(text: str) -> tuple[str, ...]:
    if not all(map(notify_addresses.is_address, text.split())):
        raise ValueError
    return tuple(text.split())


def _show_wrong_addresses(text: str) -> str:
    wrong = [address for address in text.split() if not notify_addresses.is_address(address)]
    return repr(" ".join(map(notify_addresses.mask, wrong)))


def _tokens(text: str) -> tuple[str, ...]:
    token_text.parse_setting(text)
    return tuple(re.split(r"[,\s]+", text.strip()))


def _show_wrong_token(text: str) -> str:
    """Return the number of the invalid entry, not its text: a token pasted by mistake must not get into a log."""
    try:
        token_text.parse_setting(text)
    except ValueError as error:
        return f"{notify_addresses.HIDDEN} (entry {error})"
    return notify_addresses.HIDDEN


def _file(text: str) -> Path:
    """Return the path of a file without following links: a link may lead elsewhere later."""
    _path(text)
    return PROJECT / Path(text).expanduser()


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(text)
    return text


def _hidden(_: str) -> str:
    return notify_addresses.HIDDEN


def _web_address(text: str) -> str:
    if not notify_addresses.is_web_address(text):
        raise ValueError
    return text


@dataclass(frozen=True)
class TimeSpan:
    """A time span such as `36h`. units: those that are allowed. Raises ValueError for another text."""

    text: str
    units: InitVar[str]
    microseconds: int = field(init=False, compare=False)

    def __post_init__(self, units: str) -> None:
        number = re.fullmatch(rf"([1-9][0-9]{{0,5}})([{units}])", self.text.lower())
        if number is None:
            raise ValueError(self.text)
        object.__setattr__(self, "microseconds", int(number[1]) * _SPANS[number[2]])

    def __str__(self) -> str:
        return self.text


_SPANS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 7 * 86_400_000_000}
"""Unit of a time span → microseconds."""
_BOOLEAN = Kind(_boolean, "true/false, 1/0, yes/no or on/off")
_AGE = Kind(partial(TimeSpan, units="hdw"), "a number of hours, days or weeks, such as 36h, 90d or 8w")
_PERIOD = Kind(
    partial(TimeSpan, units="smhd"), "a number of seconds, minutes, hours or days, such as 90s, 10m, 2h or 30d"
)
_FOLDER = Kind(_path, "a folder's path in UTF-8; a relative one starts at the folder of wsgi.py")
_FILE = Kind(_file, "a file's path in UTF-8; a relative one starts at the folder of wsgi.py")
_PASSWORD = Kind(_one_line, "a password on one line", _hidden)
_TOPIC = Kind(topic_name, "a Kafka topic name: letters, digits, '.', '_' and '-', at most 249")
_DAY = 86_400_000
_LARGEST_BODY = 2**27
"""Bytes. As JSON a text may be six times as long, and a frame to the store has at most 2**30 (`store.rpc.wire`)."""


@dataclass(frozen=True)
class Declaration:
    """One setting: its environment variable, attribute, kind, default (as text; empty: unset) and meaning.

    secret: its value is in no log, no answer and no environment of a child process.
    """

    name: str
    kind: Kind
    default: str
    meaning: str
    secret: bool = False

    @property
    def attribute(self) -> str:
        return self.name.lower()


def _keep(period: str, periods: str) -> Declaration:
    return Declaration(
        f"KEEP_{period}", _whole(0, 1_000_000), "",
        f"For how many {periods} of `SCHEDULE_TIME_ZONE` the newest archive created here stays; {periods} without an "
        "archive do not count.",
    )  # fmt: skip


DECLARATIONS: tuple[Declaration, ...] = (
    Declaration("HOST", Kind(_host, "a host name or an address"), "127.0.0.1", "The address that gunicorn listens on."),
    Declaration("PORT", _whole(0, 65535), "5050", "The port that gunicorn listens on; 0 takes a free one."),
    Declaration("WEB_CONCURRENCY", _whole(1, 64), "2", "How many gunicorn workers serve HTTP."),
    Declaration(
        "STORAGE_DIR", _FOLDER, "storage",
        "The folder of the database `event_registry_db` and the store's socket `store.sock`.",
    ),
    Declaration("BACKUP_DIR", _FOLDER, "backups", "The folder of the archives; its files are the list of archives."),
    Declaration("RESTORE_DIR", _FOLDER, "restore", "An archive in this folder is restored when the service starts."),
    Declaration("AUTO_BACKUP_ENABLED", _BOOLEAN, "true", "Back up every `AUTO_BACKUP_INTERVAL` if anything changed."),
    Declaration("AUTO_RESTORE_ENABLED", _BOOLEAN, "true", "Restore what is in `RESTORE_DIR` when the service starts."),
    Declaration("AUTO_BACKUP_INTERVAL", _whole(1000, 366 * _DAY, "ms"), "3600000", "Milliseconds between backups."),
    Declaration(
        "BACKUP_CRON", Kind(Cron, CRON_ALLOWED), "off",
        "Back up at these times too if anything changed, such as `30 2 * * *`, on the clocks of `SCHEDULE_TIME_ZONE`. "
        "`AUTO_BACKUP_ENABLED=false` does not stop it.",
    ),
    Declaration(
        "SCHEDULE_TIME_ZONE", Kind(parse_zone, ZONE_ALLOWED), "UTC", "The time zone of schedules and of calendar rules."
    ),
    Declaration(
        "REHEARSAL_CRON", Kind(Cron, CRON_ALLOWED), "0 3 * * 0",
        "When a restore is rehearsed: tried in a scratch folder of `STORAGE_DIR`, compared with the live events and "
        "measured. On the clocks of `SCHEDULE_TIME_ZONE`; `off`: only on request.",
    ),
    Declaration(
        "ARCHIVE_COMPRESSION", _choice("fast", "small", "store"), "fast",
        "How archives are compressed: `fast`, `small` (as small as by `tar czf`, several times slower) or `store` (not "
        "at all).",
    ),
    Declaration(
        "SCRUB_INTERVAL", _whole(0, 366 * _DAY, "ms"), "21600000",
        "Milliseconds between two steps of the rolling check, which reads the archive verified longest ago; 0: off.",
    ),
    Declaration(
        "MAX_BACKUPS", _whole(1, 1_000_000), "10",
        "How many of the newest archives created here rotation keeps; `KEEP_*` add to them.",
    ),
    _keep("HOURLY", "hours"),
    _keep("DAILY", "days"),
    _keep("WEEKLY", "weeks"),
    _keep("MONTHLY", "months"),
    _keep("YEARLY", "years"),
    Declaration(
        "MAX_BACKUP_AGE", _AGE, "",
        "Archives created here that are so much older than the newest one are removed. Unset: no limit.",
    ),
    Declaration(
        "MAX_BACKUP_BYTES", _whole(1, 10**18 - 1, "bytes"), "",
        "If the archives created here take more disk together, the oldest ones are removed. Unset: no limit.",
    ),
    Declaration(
        "JOURNAL_INTERVAL", _whole(10, _DAY, "ms"), "1000",
        "Milliseconds between two journal segments. A lost `STORAGE_DIR` costs at most the events of this time and of "
        "the time to write a segment.",
    ),
    Declaration(
        "KEEP_UNDO", _whole(0, 1000), "3",
        "How many previous databases stay in `STORAGE_DIR` for `POST /api/backup/undo`. The next good backup removes "
        "those beyond this number.",
    ),
    Declaration(
        "AUTO_RECOVER", Kind(_recover, "true, false or empty"), "false",
        "What a start does if there is no database but `BACKUP_DIR` has its archives or journal: `true` recovers up to "
        "the last journaled event, `false` refuses to start, `empty` starts an empty registry.",
    ),
    Declaration(
        "MAX_BODY_BYTES", _whole(1024, _LARGEST_BODY, "bytes"), "33554432",
        "The largest request body; a larger one gets 413. It does not limit uploads of archives.",
    ),
    Declaration(
        "FILE_GROUP_READ", _BOOLEAN, "false",
        "Data files are for their owner alone (0600, in folders of 0700). `true` lets the group read them (0640 and "
        "0750), for a backup tool that runs as another user; the key and the list of trust in `STORAGE_DIR` stay 0600.",
    ),
    Declaration(
        "KAFKA_BOOTSTRAP_SERVERS", Kind(_servers, "host:port, or several separated by commas"), "",
        "The Kafka brokers. Unset: Kafka is not used.",
    ),
    Declaration(
        "KAFKA_SECURITY_PROTOCOL", _choice("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", spelled=str.upper), "",
        "The protocol of the brokers. Unset: `PLAINTEXT`, unless `KAFKA_CONFIG_FILE` sets another one.",
    ),
    Declaration(
        "KAFKA_SASL_MECHANISM",
        _choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", spelled=str.upper), "",
        "How to log in to the brokers, with `SASL_SSL` or `SASL_PLAINTEXT`. What `OAUTHBEARER` needs is in "
        "`KAFKA_CONFIG_FILE`: see docs/kafka.md.",
    ),
    Declaration("KAFKA_SASL_USERNAME", Kind(_one_line, "a name on one line"), "", "The user that logs in."),
    Declaration(
        "KAFKA_SASL_PASSWORD", _PASSWORD, "",
        "The user's password. Better in a file: `KAFKA_SASL_PASSWORD_FILE`.", secret=True,
    ),
    Declaration("KAFKA_SASL_PASSWORD_FILE", _FILE, "", "A file with the user's password, for this user alone (0600)."),
    Declaration(
        "KAFKA_SSL_CA_LOCATION", _FILE, "",
        "A file (PEM) with the certificates that may sign those of the brokers. Unset: those of the system.",
    ),
    Declaration(
        "KAFKA_SSL_CERTIFICATE_LOCATION", _FILE, "",
        "A file (PEM) with the certificate that EventVault shows to the brokers. Unset: none.",
    ),
    Declaration("KAFKA_SSL_KEY_LOCATION", _FILE, "", "A file (PEM) with the private key of that certificate."),
    Declaration(
        "KAFKA_SSL_KEY_PASSWORD", _PASSWORD, "",
        "The password of that key. Better in a file: `KAFKA_SSL_KEY_PASSWORD_FILE`.", secret=True,
    ),
    Declaration("KAFKA_SSL_KEY_PASSWORD_FILE", _FILE, "", "A file with that password, for this user alone (0600)."),
    Declaration(
        "KAFKA_CONFIG_FILE", _FILE, "",
        "A file with further properties of librdkafka, `name=value` on each line, for this user alone (0600). What "
        "EventVault's guarantees rest on cannot be set: see docs/kafka.md.",
    ),
    Declaration(
        "KAFKA_CREATE_TOPICS", _BOOLEAN, "false",
        "Create missing topics for jobs, results, dead letters and published events. A topic that events are consumed "
        "from is never created.",
    ),
    Declaration(
        "KAFKA_EVENTS_TOPIC",
        Kind(EventsTopics, "names of Kafka topics, separated by commas, or ^ and a regular expression of names"),
        "events",
        "The topics that events are consumed from. A pattern such as `^shop-` never matches topics of jobs, of dead "
        "letters and Kafka's own.",
    ),
    Declaration(
        "KAFKA_PUBLISH_TOPIC", _TOPIC, "",
        "The topic to which events are published, except those that come from Kafka. Unset: nothing is published.",
    ),
    Declaration("KAFKA_JOBS_TOPIC", _TOPIC, "jobs", "The topic that jobs are consumed from."),
    Declaration("KAFKA_RESULTS_TOPIC", _TOPIC, "job-results", "The topic that the outcomes of jobs are written to."),
    Declaration(
        "KAFKA_JOBS_GROUP", _TOPIC, "eventvault-workers",
        "The consumer group of the workers of 0.1.0: jobs are consumed from its offsets on, once it has no members.",
    ),
    Declaration("JOBS_ENABLED", _BOOLEAN, "true", "Run jobs: the dispatcher, and the worker of the service itself."),
    Declaration(
        "JOBS_LOCAL_CONCURRENCY", _whole(0, 256), "2",
        "How many jobs the worker of the service itself runs at a time; 0: it runs none.",
    ),
    Declaration(
        "JOBS_LATE_AFTER", _PERIOD, "10m", "Health is `degraded` if a job that is due waits for so long."
    ),
    Declaration(
        "JOBS_UNKNOWN_AFTER", _PERIOD, "1d",
        "A job from Kafka is `dead` if no worker has named its type for this long.",
    ),
    Declaration("JOBS_KEEP", _PERIOD, "30d", "How long a job is listed after its end; dead ones three times as long."),
    Declaration("JOBS_KEEP_MAX", _whole(1, 10**9), "1000000", "How many ended jobs are listed: the newest ones."),
    Declaration(
        "JOBS_FROM_KAFKA", Kind(_words, "types of jobs, separated by commas"), "",
        "Built-in types of jobs, such as `verify`, that are accepted from the topic of jobs too.",
    ),
    Declaration(
        "WORKER_JOBS", Kind(_module_names, "names of Python modules, separated by commas"), "",
        "The modules with job handlers that the worker imports, from where it is started or from `PYTHONPATH`.",
    ),
    Declaration(
        "WORKER_CONCURRENCY", _whole(1, 512), "",
        "How many jobs a worker runs at a time, each in a process of its own. Unset: as many as there are processors.",
    ),
    Declaration(
        "WORKER_ENV", Kind(_variable_names, "names of environment variables, separated by commas"), "",
        "The environment variables that job handlers get, besides `PATH`, `HOME`, `LANG` and `TZ`.",
    ),
    Declaration(
        "WORKER_JOB_MEMORY", _whole(2**26, 2**50, "bytes"), "1073741824",
        "How much memory a job handler, and each process that it starts, may allocate.",
    ),
    Declaration(
        "WORKER_JOBS_PER_PROCESS", _whole(1, 1_000_000_000), "1000",
        "After so many jobs the process that runs handlers is replaced, so that memory which they lose is free again.",
    ),
    Declaration(
        "WORKER_DRAIN_SECONDS", _whole(0, 86_400), "30",
        "Seconds after SIGTERM in which a worker finishes its jobs. It hands those back that take longer.",
    ),
    Declaration(
        "WORKER_METRICS_ADDRESS", Kind(Address, "host:port, such as 127.0.0.1:9108"), "",
        "Where a worker serves its metrics for Prometheus, to everybody who can reach it. Unset: nowhere.",
    ),
    Declaration(
        "API_TOKENS", Kind(_tokens, token_text.SETTING_ALLOWED, _show_wrong_token), "",
        "Tokens besides those that `flask tokens create` makes, by their SHA-256: see docs/access.md.",
        secret=True,
    ),
    Declaration(
        "API_TOKENS_FILE", _FILE, "",
        "A file with tokens in the form of `API_TOKENS`, one on each line, such as a container's secret. If it is "
        "missing, the service starts closed.",
    ),
    Declaration(
        "ALLOW_UNAUTHENTICATED", _BOOLEAN, "false",
        "Without tokens, allow an address that is not loopback, although any client there can read and restore "
        "everything. Once a token was made, this changes nothing.",
    ),
    Declaration(
        "ALLOWED_HOSTS", Kind(_words, "host names separated by commas; * allows any"), "",
        "Names that a `Host` header may have besides the loopback names.",
    ),
    Declaration(
        "TRUSTED_PROXIES",
        Kind(_proxies, "addresses, networks such as 10.0.0.0/8, and the word unix, separated by commas"), "",
        "Proxies that are believed when they name a client's address and scheme, in `X-Forwarded-For` and "
        "`X-Forwarded-Proto`. `unix`: who connects to a Unix socket.",
    ),
    Declaration(
        "NOTIFY_URLS",
        Kind(_notify_urls, "addresses of Apprise, separated by blanks", _show_wrong_addresses), "",
        "Whom to tell of problems and restores, by mail, chat or webhook: see docs/notifications.md.",
        secret=True,
    ),
    Declaration(
        "PING_URL",
        Kind(_web_address, "an http or https address", lambda text: repr(notify_addresses.mask(text))), "",
        "An address that gets a request at the start (`/start`), the success and the failure (`/fail`) of each "
        "scheduled backup.",
        secret=True,
    ),
    Declaration(
        "WEBHOOK_SECRET_FILE", _FILE, "",
        "A file with the key by which jobs of the type `webhook` are signed: `whsec_` and base64, or any text. Unset: "
        "no webhook is sent.",
    ),
    Declaration(
        "WEBHOOK_ALLOWED_NETWORKS",
        Kind(_networks, "addresses and networks such as 10.0.0.0/8, separated by commas"), "",
        "Networks that webhooks may go to although they are not public.",
    ),
    Declaration("LOG_LEVEL", _choice("debug", "info", "warning", "error"), "info", "The lowest level that is logged."),
    Declaration(
        "LOG_FORMAT", _choice("text", "json"), "",
        "The format of log lines. Unset: `text` on a terminal, `json` elsewhere.",
    ),
)  # fmt: skip


_LISTS = (
    "api_tokens", "allowed_hosts", "trusted_proxies", "notify_urls", "jobs_from_kafka", "worker_jobs", "worker_env",
    "webhook_allowed_networks",
)  # fmt: skip
"""Attributes that are empty if their setting is unset."""
SECRETS = tuple(declaration.name for declaration in DECLARATIONS if declaration.secret)


@dataclass(frozen=True)
class Settings:
    """All settings, valid. Intervals are in milliseconds, sizes in bytes, folders absolute."""

    host: str
    port: int
    web_concurrency: int
    storage_dir: Path
    backup_dir: Path
    restore_dir: Path
    auto_backup_enabled: bool
    auto_restore_enabled: bool
    auto_backup_interval: int
    backup_cron: Cron
    schedule_time_zone: ZoneInfo
    rehearsal_cron: Cron
    archive_compression: Literal["fast", "small", "store"]
    scrub_interval: int
    max_backups: int
    keep_hourly: int | None
    keep_daily: int | None
    keep_weekly: int | None
    keep_monthly: int | None
    keep_yearly: int | None
    max_backup_age: TimeSpan | None
    max_backup_bytes: int | None
    journal_interval: int
    keep_undo: int
    auto_recover: str
    max_body_bytes: int
    file_group_read: bool
    kafka_bootstrap_servers: str | None
    kafka_security_protocol: str | None
    kafka_sasl_mechanism: str | None
    kafka_sasl_username: str | None
    kafka_sasl_password: str | None = field(repr=False)
    kafka_sasl_password_file: Path | None
    kafka_ssl_ca_location: Path | None
    kafka_ssl_certificate_location: Path | None
    kafka_ssl_key_location: Path | None
    kafka_ssl_key_password: str | None = field(repr=False)
    kafka_ssl_key_password_file: Path | None
    kafka_config_file: Path | None
    kafka_create_topics: bool
    kafka_events_topic: EventsTopics
    kafka_publish_topic: str | None
    kafka_jobs_topic: str
    kafka_results_topic: str
    kafka_jobs_group: str
    jobs_enabled: bool
    jobs_local_concurrency: int
    jobs_late_after: TimeSpan
    jobs_unknown_after: TimeSpan
    jobs_keep: TimeSpan
    jobs_keep_max: int
    jobs_from_kafka: tuple[str, ...]
    worker_jobs: tuple[str, ...]
    worker_concurrency: int | None
    worker_env: tuple[str, ...]
    worker_job_memory: int
    worker_jobs_per_process: int
    worker_drain_seconds: int
    worker_metrics_address: Address | None
    api_tokens: tuple[str, ...] = field(repr=False)
    api_tokens_file: Path | None
    allow_unauthenticated: bool
    allowed_hosts: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    notify_urls: tuple[str, ...] = field(repr=False)
    ping_url: str | None = field(repr=False)
    webhook_secret_file: Path | None
    webhook_allowed_networks: tuple[str, ...]
    log_level: str
    log_format: str | None
    from_environment: frozenset[str] = field(default=frozenset(), compare=False)
    """The names of the settings that the environment gives; the others have their defaults."""

    @property
    def other_topics(self) -> dict[str, str]:
        """Topics that are never events topics, and what is in them."""
        return topic_names.other_uses(vars(self))

    @property
    def database(self) -> Path:
        return self.storage_dir / data_folders.DATABASE

    def to_environment(self) -> dict[str, str]:
        """Return the environment variables that give another process the same settings, except the secret ones."""
        return {
            declaration.name: _text(getattr(self, declaration.attribute))
            for declaration in DECLARATIONS
            if not declaration.secret
        }

    def secrets(self) -> dict[str, str]:
        """Return the secret settings as `load` reads them."""
        values = {setting.name: getattr(self, setting.attribute) for setting in DECLARATIONS if setting.secret}
        return {name: " ".join(value) if isinstance(value, tuple) else _text(value) for name, value in values.items()}


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environment` (default: this process's).

    A blank value counts as unset. Raises InvalidSettings that names all invalid ones, with their values and what is
    allowed.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    problems = []
    set_there = {declaration.name for declaration in DECLARATIONS if environment.get(declaration.name, "").strip()}
    for declaration in DECLARATIONS:
        text = environment.get(declaration.name, "").strip() or declaration.default
        if not is_utf8(text):
            shown = notify_addresses.HIDDEN if declaration.secret else printable(text)
            problems.append(f"{declaration.name} is not UTF-8: {shown}")
            continue
        try:
            values[declaration.attribute] = declaration.kind.parse(text) if text else None
        except ValueError:
            problems.append(f"{declaration.name} is {declaration.kind.show(text)}; allowed: {declaration.kind.allowed}")
    problems += [*_clashes(values), *_no_events_topics(values), *_publish_clashes(values)]
    if problems:
        raise InvalidSettings(
            "; ".join(problems), hint="correct or unset these environment variables; docs/settings.md lists them all",
            problems=problems,
        )  # fmt: skip
    lists = {name: values[name] or () for name in _LISTS}
    return Settings(**{**values, **lists}, from_environment=frozenset(set_there))


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Return the settings in force, as `GET /api/settings` lists them; of a secret only whether it is set."""
    return [_describe(declaration, settings) for declaration in DECLARATIONS]


def _describe(declaration: Declaration, settings: Settings) -> dict[str, Any]:
    value = _shown(getattr(settings, declaration.attribute))
    return {
        "name": declaration.name,
        "value": "set" if declaration.secret and value is not None else value,
        "default": _shown(declaration.kind.parse(declaration.default)) if declaration.default else None,
        "source": "environment" if declaration.name in settings.from_environment else "default",
        "allowed": declaration.kind.allowed,
        "unit": declaration.kind.unit,
        "meaning": declaration.meaning,
    }


def _shown(value: Any) -> str | int | bool | None:
    """Return the value of a setting as JSON shows it; None if it is unset."""
    return value if isinstance(value, bool | int) else _text(value) or None


def make_folders(settings: Settings) -> None:
    """Make the three data folders if they are missing. Raises InvalidSettings that names all that cannot be made.

    STORAGE_DIR must also be writable, unless a database in it can be read meanwhile. If another folder is not, the
    service runs and health reports it.
    """
    problems = []
    for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR"):
        folder = getattr(settings, name.lower())
        try:
            make_folder(folder)
        except OSError as error:
            problems.append(f"{name} {folder} cannot be made: {error.strerror}")
    if settings.storage_dir.exists() and not settings.storage_dir.is_dir():
        problems.append(f"STORAGE_DIR {settings.storage_dir} is not a folder")
    writable = os.access(settings.storage_dir, os.W_OK | os.X_OK)
    if settings.storage_dir.is_dir() and not writable and not os.access(settings.database / "CURRENT", os.R_OK):
        problems.append(f"STORAGE_DIR {settings.storage_dir} cannot be written to")
    if problems:
        raise InvalidSettings(
            "; ".join(problems),
            hint="name folders that this user may write to, or run this as the user of the service", problems=problems,
        )  # fmt: skip


def _clashes(values: Mapping[str, Any]) -> list[str]:
    """Name data folders that are the same or inside one another: they would back up or restore themselves."""
    folders = {name: values.get(name.lower()) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    present = [(name, path) for name, path in folders.items() if path is not None]
    return [
        f"{name} ({path}) is inside {other} ({parent}); allowed: three separate folders"
        if path != parent
        else f"{name} and {other} are both {path}; allowed: three separate folders"
        for index, (name, path) in enumerate(present)
        for number, (other, parent) in enumerate(present)
        if index != number and ((path == parent and index < number) or parent in path.parents)
    ]


def _no_events_topics(values: Mapping[str, Any]) -> list[str]:
    """Say which of the events topics have another use: their messages would be taken for events."""
    chosen = values.get("kafka_events_topic")
    uses = topic_names.other_uses(values)
    reasons = [topic_names.why_no_events(name, uses) for name in chosen.names] if chosen is not None else []
    return [
        f"KAFKA_EVENTS_TOPIC is '{chosen}', but {reason}; allowed: topics of events" for reason in reasons if reason
    ]


def _publish_clashes(values: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with KAFKA_PUBLISH_TOPIC, except a use as events topic: see `_no_events_topics`."""
    topic = values.get("kafka_publish_topic")
    if topic is None:
        return []
    reason = topic_names.why_no_events(topic, topic_names.other_uses({**values, "kafka_publish_topic": None}))
    problems = (
        [] if reason is None else [f"KAFKA_PUBLISH_TOPIC is {topic!r}, but {reason}; allowed: a topic of its own"]
    )
    if values.get("kafka_bootstrap_servers") is None:
        problems.append("KAFKA_PUBLISH_TOPIC is set, but KAFKA_BOOTSTRAP_SERVERS is not; allowed: both, or neither")
    return problems


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
