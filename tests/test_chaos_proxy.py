"""Lines do to connections what they are told to, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from .chaos.proxy import Fault, Network

TIMEOUT = 0.3


@pytest.fixture
def server() -> Iterator[int]:
    """The port of a server that answers each piece with the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                try:
                    while said := connection.recv(100):
                        connection.sendall(said)
                except ConnectionError:
                    return

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(delay=lambda: 0.01) as network:
        yield network


def connected(network: Network, server: int) -> socket.socket:
    port = network.line("line", "127.0.0.1", server)
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    assert answer(connection, b"before") == b"before"
    return connection


def answer(connection: socket.socket, said: bytes) -> bytes:
    connection.sendall(said)
    return connection.recv(100)


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.DEAF, Fault.MUTE])
def test_what_is_held_back_arrives_when_the_line_is_whole_again(
    network: Network, server: int, fault: Fault
) -> None:
    with closing(connected(network, server)) as connection:
        network.trouble("line", fault)
        connection.settimeout(TIMEOUT)
        with pytest.raises(TimeoutError):
            answer(connection, b"held")

        network.trouble("line", None)

        connection.settimeout(5)
        assert connection.recv(100) == b"held"


def test_a_slow_line_is_a_line(network: Network, server: int) -> None:
    with closing(connected(network, server)) as connection:
        network.trouble("line", Fault.SLOW)

        assert answer(connection, b"slow") == b"slow"


def test_a_reset_ends_connections_and_lets_none_begin(network: Network, server: int) -> None:
    with closing(connected(network, server)) as connection:
        there = connection.getpeername()
        network.trouble("line", Fault.RESET)

        with pytest.raises(ConnectionResetError):
            connection.recv(100)
        with pytest.raises(ConnectionResetError), socket.create_connection(there, 5) as other:
            other.recv(100)

        network.trouble("line", None)
        with socket.create_connection(there, timeout=5) as other:
            assert answer(other, b"again") == b"again"


def test_a_client_of_a_half_open_connection_is_not_told(network: Network, server: int) -> None:
    with closing(connected(network, server)) as connection:
        network.trouble("line", Fault.HALF_OPEN)
        connection.settimeout(TIMEOUT)
        with pytest.raises(TimeoutError):
            answer(connection, b"lost")

        network.trouble("line", None)

        connection.settimeout(5)
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
