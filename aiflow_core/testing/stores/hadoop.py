"""A real name node and data node of Hadoop, taken from Maven's central repository.

Needs `java` (11 or 17) and `mvn`. What is downloaded, about 100 MB, stays in the cache directory of
the user, and is found there the next time.
"""

import contextlib
import getpass
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from aiflow_core.testing.stores.maven import libraries, program
from aiflow_core.testing.stores.process import free_port, serving

VERSION = "3.4.1"
_LIBRARIES = [
    f"org.apache.hadoop:hadoop-common:{VERSION}",
    f"org.apache.hadoop:hadoop-common:{VERSION}:tests",
    f"org.apache.hadoop:hadoop-hdfs:{VERSION}",
    f"org.apache.hadoop:hadoop-hdfs:{VERSION}:tests",
    f"org.apache.hadoop:hadoop-hdfs-client:{VERSION}",
    # Maven would choose another than the one with which the others were built.
    "com.fasterxml.jackson.core:jackson-core:2.12.7",
    # The program that starts name node and data node together is one of Hadoop's tests.
    "junit:junit:4.13.2",
    "org.mockito:mockito-core:4.11.0",
]
# Hadoop's libraries are older than the modules of Java.
_OPENED = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "net", "util")]
_PATIENCE = 180.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Hadoop:
    """A running HDFS.

    Attributes:
        url: where WebHDFS answers.
        superuser: who may do everything.
    """

    url: str
    superuser: str


@contextlib.contextmanager
def hadoop(directory: Path) -> Iterator[Hadoop]:
    """HDFS with one data node, which keeps its files in `directory`.

    `FileNotFoundError` when Java or Maven is missing.
    """
    port, path = free_port(), libraries(f"hadoop-{VERSION}", _LIBRARIES)
    command = [
        *(program("java"), "-Xmx400m", f"-Dtest.build.data={directory}", *_OPENED),
        *("-cp", f"{path}/*", "org.apache.hadoop.test.MiniDFSClusterManager"),
        *("-format", "-datanodes", "1", "-nnport", "0", "-httpport", str(port)),
        *("-D", "dfs.namenode.safemode.extension=0"),
    ]
    url = f"http://127.0.0.1:{port}"
    with serving(command, port, directory / "hadoop.log", patience=_PATIENCE):
        _await_data_node(url)
        yield Hadoop(url=url, superuser=getpass.getuser())


def _await_data_node(url: str) -> None:
    bean = f"{url}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(bean, timeout=10) as answer:
            if any(b.get("NumLiveDataNodes") for b in json.load(answer)["beans"]):
                return
        time.sleep(0.2)
    raise RuntimeError("No data node has joined the name node.")
