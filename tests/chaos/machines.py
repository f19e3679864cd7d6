"""Machines of a deployment: network namespaces, each with a cable that can be pulled out."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Of the range that is set aside for tests of networks (RFC 2544).
_NETWORK = "198.18"


class Machine:
    """A network namespace, and the pair of interfaces that joins it to this one.

    Attributes:
        inside: its own address.
        outside: the address of this machine, as it is reached from there.
        prefix: what makes a command run there.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        third, fourth = divmod(4 * number, 256)
        self.outside = f"{_NETWORK}.{third}.{fourth + 1}"
        self.inside = f"{_NETWORK}.{third}.{fourth + 2}"
        self.prefix = ("ip", "netns", "exec", name)
        self._ends = (f"ch{number}o", f"ch{number}i")

    def build(self) -> None:
        """Make it, plugged in."""
        outside, inside = self._ends
        _ip("netns", "add", self.name)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.name)
        _ip("addr", "add", f"{self.outside}/30", "dev", outside)
        _ip("-n", self.name, "addr", "add", f"{self.inside}/30", "dev", inside)
        _ip("link", "set", outside, "up")
        for interface in ("lo", inside):
            _ip("-n", self.name, "link", "set", interface, "up")

    def unplug(self, at_its_own_end: bool) -> None:
        """Cut it off. Where the end is, connections cannot begin; at the other, they hang."""
        self._set(at_its_own_end, "down")

    def plug(self) -> None:
        """Join it again."""
        for at_its_own_end in (True, False):
            self._set(at_its_own_end, "up")

    def _set(self, at_its_own_end: bool, state: str) -> None:
        outside, inside = self._ends
        where = ("-n", self.name) if at_its_own_end else ()
        _ip(*where, "link", "set", inside if at_its_own_end else outside, state)


def missing() -> str | None:
    """Say what this machine lacks for machines of its own, or None."""
    if shutil.which("ip") is None:
        return "not installed: ip"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return None


@contextmanager
def machines(root: Path, count: int) -> Iterator[Sequence[Machine]]:
    """So many machines, named after the directory of the run, which end with the block."""
    first = os.getpid() % 4000 * 4  # another run beside this one has other addresses
    built = [Machine(f"{root.name}-{n}", first + n) for n in range(count)]
    try:
        for machine in built:
            machine.build()
        yield built
    finally:
        remove(root)


def remove(root: Path) -> None:
    """Remove the machines that are named after a directory."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(f"{root.name}-"):
            _ip("netns", "delete", name)  # its interfaces go with it


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout
