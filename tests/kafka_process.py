"""An Apache Kafka broker (KRaft, one node) as a process of its own, that never outlives who asked for it.

Run as a program this file is the supervisor: `python kafka_process.py <folder> <pid>` runs the broker of `folder`
and ends it on SIGTERM, or when the process `pid` is gone; then `folder` is removed too. The broker itself dies
with the supervisor, so that nothing is left running whoever is killed.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import hashlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
TARGET = HERE / "target"
MAVEN_SECONDS = 240
START_SECONDS = 200
JAVA_LEAST = 17
PR_SET_PDEATHSIG = 1

JVM = (
    "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)  # fmt: skip

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/log
auto.create.topics.enable=false
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.backoff.ms=100
"""


SECURED = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURED://127.0.0.1:{secured}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURED://127.0.0.1:{secured}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL
listener.name.secured.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.secured.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_plain="{password}";
listener.name.secured.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.secured.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.secured.oauthbearer.sasl.jaas.config={modules}.oauthbearer.OAuthBearerLoginModule required \
 unsecuredLoginStringClaim_sub="broker";
listener.name.secured.oauthbearer.connections.max.reauth.ms=60000
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={folder}/keystore.pem
listener.name.secured.ssl.truststore.type=PEM
listener.name.secured.ssl.truststore.location={folder}/authority.pem
listener.name.secured.ssl.client.auth=requested
"""
"""What is added for a second listener, SASL over TLS."""
PLAIN_PASSWORD = "a password for PLAIN"


class KafkaUnavailable(Exception):
    """This machine has no Java, no Maven or no way to the artifacts; the text says which."""


def kafka_jars() -> Path:
    """The folder with Apache Kafka and what it needs, copied by Maven once per content of pom.xml.

    Raises KafkaUnavailable. Safe to call from many processes at once.
    """
    _require_java()
    jars = TARGET / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    TARGET.mkdir(exist_ok=True)
    with locked(TARGET / "maven.lock"):
        if not jars.is_dir():
            _copy_dependencies(jars)
    return jars


def formatted_storage(jars: Path) -> Path:
    """The storage of a broker that never ran, made once for all brokers: it holds neither a port nor a path."""
    storage = jars.with_name(f"{jars.name}-storage")
    with locked(TARGET / "format.lock"):
        if not storage.is_dir():
            _format(jars, storage)
    return storage


def _format(jars: Path, storage: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    with tempfile.TemporaryDirectory(dir=TARGET) as folder:
        properties = Path(folder) / "server.properties"
        properties.write_text(PROPERTIES.format(port=9092, controller=9093, folder=folder))
        command = java(jars, Path(folder), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(f"kafka.tools.StorageTool failed: {done.stdout}{done.stderr}")
        (Path(folder) / "log").rename(storage)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, made where it is missing; waits for whoever has it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _require_java() -> None:
    if shutil.which("java") is None:
        raise KafkaUnavailable("there is no java on the PATH: Apache Kafka needs Java 17 or newer")
    said = subprocess.run(["java", "-XX:-UsePerfData", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_LEAST:
        raise KafkaUnavailable(f"java -version says {said.strip()!r}: Apache Kafka needs Java 17 or newer")


def _copy_dependencies(jars: Path) -> None:
    if shutil.which("mvn") is None:
        raise KafkaUnavailable("there is no mvn on the PATH: Maven brings Apache Kafka (tests/pom.xml)")
    aside = jars.with_name(f".{jars.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    command = ["mvn", "-B", "-q", "-f", str(POM), "dependency:copy-dependencies",
               f"-DoutputDirectory={aside}", "-DincludeScope=runtime"]  # fmt: skip
    environment = {**os.environ, "MAVEN_OPTS": f"{os.environ.get('MAVEN_OPTS', '')} -XX:-UsePerfData"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=MAVEN_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise KafkaUnavailable(f"Maven did not bring Apache Kafka within {MAVEN_SECONDS} s") from error
    if done.returncode != 0:
        raise KafkaUnavailable(f"Maven could not bring Apache Kafka: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    aside.rename(jars)


class KafkaBroker:
    """The broker whose data, settings and ports lie in `folder`. It can be stopped and started again, there too.

    watched: the process that it must not outlive. secured: it has a second listener, SASL over TLS.
    """

    def __init__(self, folder: Path, watched: int, *, secured: bool = False) -> None:
        self.folder = folder
        self._watched = watched
        self._secured = secured
        self._supervisor: int | None = None
        self.port = self.secured_port = 0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def supervisor(self) -> int:
        """Its process id, while the broker runs."""
        assert self._supervisor is not None
        return self._supervisor

    def start(self) -> None:
        """Start and wait until it answers. Raises KafkaUnavailable, or RuntimeError with the broker's last words."""
        jars = self.prepare()
        command = [sys.executable, __file__, str(self.folder), str(self._watched), str(jars)]
        self._supervisor = os.posix_spawn(
            sys.executable, command, os.environ, setsid=True, file_actions=self._streams()
        )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> Path:
        """Choose the ports and make the storage, where that is not done yet; gives the folder with Kafka."""
        jars = kafka_jars()
        properties = self.folder / "server.properties"
        if not (self.folder / "log").is_dir():
            self._format(jars, properties)
        ports = dict(re.findall(r"(PLAINTEXT|SECURED)://[0-9.]+:(\d+)", properties.read_text()))
        self.port, self.secured_port = int(ports["PLAINTEXT"]), int(ports.get("SECURED", 0))
        return jars

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM ends it cleanly, SIGKILL as a power cut would (the broker dies with its supervisor)."""
        if self._supervisor is not None:
            os.kill(self._supervisor, how)
            os.waitpid(self._supervisor, 0)
            self._supervisor = None

    def _streams(self) -> list[tuple[int, ...] | tuple[int, int, str, int, int]]:
        """Nothing of the session's is kept open by a process that it does not wait for."""
        words, appending = str(self._words), os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, words, appending, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]

    @property
    def _words(self) -> Path:
        return self.folder / "broker.txt"

    def _format(self, jars: Path, properties: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        from tests.ports import free_port  # not where this file runs as a program

        port, controller, secured = free_port(), free_port(), free_port()
        text = PROPERTIES.format(port=port, controller=controller, folder=self.folder)
        if self._secured:
            text += self._second_listener(port, controller, secured)
        properties.write_text(text)
        shutil.copytree(formatted_storage(jars), self.folder / "log")

    def _second_listener(self, port: int, controller: int, secured: int) -> str:
        """Make what it needs. Of a property that is there twice Kafka takes the last one."""
        from tests.authority import Authority  # not where this file runs as a program

        issued = Authority(self.folder).issue("broker")
        (self.folder / "keystore.pem").write_text(issued.key.read_text() + issued.certificate.read_text())
        return SECURED.format(
            port=port, controller=controller, secured=secured, folder=self.folder, password=PLAIN_PASSWORD,
            modules="org.apache.kafka.common.security",
        )  # fmt: skip

    def _wait_until_it_answers(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._supervisor is not None
            if os.waitpid(self._supervisor, os.WNOHANG)[0]:
                self._supervisor = None
                raise RuntimeError(f"the Kafka broker ended: {self._last_words()}")
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the Kafka broker does not answer: {self._last_words()}") from None

    def _last_words(self) -> str:
        return self._words.read_text(errors="replace")[-4000:]


def java(jars: Path, folder: Path, *arguments: str) -> list[str]:
    return ["java", *JVM, f"-Djava.io.tmpdir={folder}", "-cp", f"{jars}/*", *arguments]


def supervise(folder: Path, watched: int, jars: Path) -> None:
    """Run the broker until SIGTERM comes, it ends, or `watched` is gone; in the last case remove `folder`."""
    signalled, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        watch = os.pidfd_open(watched)
    except ProcessLookupError:
        shutil.rmtree(folder, ignore_errors=True)
        return
    command = java(jars, folder, "kafka.Kafka", str(folder / "server.properties"))
    broker = subprocess.Popen(command, preexec_fn=_die_with_parent)
    with selectors.DefaultSelector() as selector:
        for descriptor in (signalled, watch, os.pidfd_open(broker.pid)):
            selector.register(descriptor, selectors.EVENT_READ)
        ready = {key.fd for key, _ in selector.select()}
    if watch in ready:
        broker.kill()
        broker.wait()
        shutil.rmtree(folder, ignore_errors=True)
        return
    broker.terminate()
    try:
        broker.wait(timeout=20)
    except subprocess.TimeoutExpired:
        broker.kill()
        broker.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
