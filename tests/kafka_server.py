"""A real Kafka for tests: one broker that is its own controller, on free ports of this machine."""

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.ports import free_port
from tests.waiting import until_blocking

LIBRARIES = Path(__file__).parent / "broadcast" / "kafka" / "libs"

_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"

_SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
"""


class KafkaServer:
    """Starts, stops and kills one broker, always on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="gateway-kafka-"))
        self._settings = self.directory / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def __enter__(self) -> "KafkaServer":
        data = self.directory / "data"
        self._settings.write_text(_SETTINGS.format(port=self.port, controller=free_port(), data=data))
        subprocess.run(
            [*_java(), "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._settings)],
            check=True,
            capture_output=True,
            cwd=self.directory,
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start with the data left in the directory, and wait until it listens."""
        with self.log.open("ab") as log:
            command = [*_java(), "kafka.Kafka", str(self._settings)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        try:
            until_blocking(self._listens, deadline=60, what="Kafka listens")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=60)
            self._process = None

    async def create_topic(self, name: str, partitions: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{self.port}")
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1)])
        finally:
            await admin.close()

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Kafka ended at once: {self.log.read_text(errors='replace')}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def _java() -> list[str]:
    program = shutil.which("java")
    if program is None or not LIBRARIES.exists():
        raise RuntimeError("Kafka is missing; let `bash tests/run --prepare` fetch it, with Java and Maven")
    return [program, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{LIBRARIES}/*"]
