"""A real session cluster of Flink, taken from Maven's central repository, and its command line.

Needs `java`, `javac`, `jar` (11 or 17) and `mvn`. What is downloaded stays in the cache directory
of the user, and is found there the next time.
"""

import contextlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from aiflow_core.testing.stores.maven import libraries, program
from aiflow_core.testing.stores.process import free_port, serving

VERSION = "2.3.0"
_LIBRARIES = [
    f"org.apache.flink:flink-clients:{VERSION}",
    f"org.apache.flink:flink-streaming-java:{VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
]
_JAVA = [
    *("-Xmx400m", "-XX:TieredStopAtLevel=1"),
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "time", "util")),
]
_MAIN = "org.apache.flink.runtime"
# What the scripts of Flink work out of the size of a process.
_RESOURCES = {
    "taskmanager.memory.framework.heap.size": "64m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "taskmanager.memory.jvm-metaspace.size": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.cpu.cores": "2",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.task.heap.size": "128m",
    "taskmanager.memory.task.off-heap.size": "0",
}
_PATIENCE = 120.0  # seconds


@dataclass(frozen=True, kw_only=True)
class FlinkCluster:
    """A running cluster.

    Attributes:
        address: host and port of its REST interface.
        program: its `flink`.
        jar: the application that was built for it.
    """

    address: str
    program: str
    jar: Path

    def await_running(self) -> None:
        """Wait until all tasks of some job run."""
        _await(
            lambda: any(job["tasks"]["running"] for job in self._get("/jobs/overview")["jobs"]),
            "No job runs.",
        )

    def await_task_manager(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until the task manager has joined; `RuntimeError` when it ends before."""

        def has_joined() -> bool:
            if process.poll() is not None:
                raise RuntimeError("The task manager has ended, see worker.log.")
            return bool(self._get("/overview")["taskmanagers"] == 1)

        _await(has_joined, "No task manager has joined.")

    def _get(self, path: str) -> Any:
        with urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return json.load(answer)


@contextlib.contextmanager
def flink_cluster(directory: Path, source: Path) -> Iterator[FlinkCluster]:
    """A cluster with one task manager and 16 slots, whose files are in `directory`; `source` is the
    application's one Java file.

    `FileNotFoundError` when Java or Maven is missing.
    """
    path = f"{libraries(f'flink-{VERSION}', _LIBRARIES)}/*"
    port = free_port()
    java = [program("java"), *_JAVA, "-cp", path]
    settings = {
        "jobmanager.memory.process.size": "900m",
        "jobmanager.rpc.address": "localhost",
        "jobmanager.rpc.port": str(free_port()),
        "rest.address": "localhost",
        "rest.port": str(port),
        "taskmanager.numberOfTaskSlots": "16",
    }
    (directory / "config.yaml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()))
    where = ["--configDir", str(directory)]
    master = [*java, f"{_MAIN}.entrypoint.StandaloneSessionClusterEntrypoint", *where]
    worker = [*java, f"{_MAIN}.taskexecutor.TaskManagerRunner", *where]
    worker += [f"-D{name}={value}" for name, value in _RESOURCES.items()]
    # Without, it would take the directory `plugins` of whoever runs the tests for its own.
    (directory / "plugins").mkdir()
    env = {"FLINK_PLUGINS_DIR": str(directory / "plugins")}
    client = directory / "flink"
    command = shlex.join([*java, "org.apache.flink.client.cli.CliFrontend"])
    client.write_text(
        "#!/bin/sh\n"
        f"export FLINK_CONF_DIR={directory} FLINK_PLUGINS_DIR={env['FLINK_PLUGINS_DIR']}\n"
        f'exec {command} "$@"\n'
    )
    client.chmod(0o755)
    cluster = FlinkCluster(
        address=f"localhost:{port}", program=str(client), jar=_jar(directory, source, path)
    )
    with (
        serving(master, port, directory / "master.log", env, _PATIENCE),
        (directory / "worker.log").open("wb") as log,
    ):
        process = subprocess.Popen(
            worker, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **env}
        )
        try:
            cluster.await_task_manager(process)
            yield cluster
        finally:
            process.kill()
            process.wait()


def _jar(directory: Path, source: Path, path: str) -> Path:
    classes, jar = directory / "classes", directory / "job.jar"
    compiler = [program("javac"), "-cp", path, "-d", str(classes), str(source)]
    subprocess.run(compiler, check=True)
    subprocess.run([program("jar"), "cf", str(jar), "-C", str(classes), "."], check=True)
    return jar


def _await(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if is_so():
                return
        time.sleep(0.2)
    raise RuntimeError(otherwise)
