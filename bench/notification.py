"""What the notification server costs, beside a bare gRPC echo in the same run; medians.

    python bench/notification.py [database URI]

Server, producer and listeners are processes of their own; without a URI the log is in memory.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median, quantiles

import grpc

from aiflow_core.model.event import Event
from aiflow_core.plugins import make
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_notification_server.endpoint import NotificationEndpoint
from aiflow_notification_server.event_store import RemoteEventStore

ROUNDS = 3
CALLS = 1000


class Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def serve(uri: str) -> None:
    with ExitStack() as stack:
        if uri:
            log = make("aiflow.event_store", "sql", {"uri": uri})
            log.initialize()
        else:
            log = MemoryEventStore()
        stack.callback(log.close)
        address = NotificationEndpoint(port=0).start(stack, log, None)
        echo = grpc.server(ThreadPoolExecutor(8))
        echo.add_generic_rpc_handlers((Echo(),))
        port = echo.add_insecure_port("127.0.0.1:0")
        echo.start()
        print(json.dumps([address, f"127.0.0.1:{port}"]), flush=True)
        sys.stdin.read()
        echo.stop(None)


def produce(address: str, count: int) -> None:
    """Append events slowly enough that each meets a quiet server."""
    store = RemoteEventStore(address)
    for _ in range(count):
        store.append([Event("bench", str(time.perf_counter_ns()))])
        time.sleep(0.002)
    store.close()


def spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def each_ms(action: Callable[[], object], calls: int = CALLS) -> list[float]:
    took = []
    for _ in range(calls):
        begin = time.perf_counter()
        action()
        took.append((time.perf_counter() - begin) * 1000)
    return took


def push_ms(address: str, store: RemoteEventStore) -> list[float]:
    took = []
    with store.subscribe(store.head()) as subscription:
        batches = iter(subscription)
        producer = spawn("produce", address, str(CALLS))
        while len(took) < CALLS:
            now_of = next(batches)
            now = time.perf_counter_ns()
            took += [(now - int(event.value or 0)) / 1e6 for event in now_of]
        producer.wait()
    return took


def stream_per_s(store: RemoteEventStore, events: int = 20_000, at_once: int = 100) -> float:
    with store.subscribe(store.head()) as subscription:
        begin = time.perf_counter()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(
                lambda: [
                    store.append([Event("bench", str(n)) for n in range(at_once)])
                    for _ in range(events // at_once)
                ]
            )
            seen = 0
            for batch in subscription:
                seen += len(batch)
                if seen >= events:
                    return seen / (time.perf_counter() - begin)
    raise AssertionError("the subscription ended")


def main(uri: str) -> None:
    server = spawn("serve", uri)
    assert server.stdout is not None
    address, echo_address = json.loads(server.stdout.readline())
    store = RemoteEventStore(address)
    with grpc.insecure_channel(echo_address) as channel:
        echo = channel.unary_unary("/bench/echo")
        each_ms(lambda: echo(b"x" * 100), 200)
        each_ms(lambda: store.append([Event("bench", "x" * 100)]), 200)
        results: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, took in {
                "bare gRPC echo, ms": each_ms(lambda: echo(b"x" * 100)),
                "append of one event, ms": each_ms(
                    lambda: store.append([Event("bench", "x" * 100)])
                ),
                "append to listener, ms": push_ms(address, store),
            }.items():
                results.setdefault(f"{name}, p50", []).append(median(took))
                results.setdefault(f"{name}, p99", []).append(quantiles(took, n=100)[98])
            results.setdefault("100 an append, streamed, events/s", []).append(stream_per_s(store))
        for name, values in results.items():
            print(f"{name:40} {median(values):10.2f}")
        echo_ms = median(results["bare gRPC echo, ms, p50"])
        append_ms = median(results["append of one event, ms, p50"])
        print(f"{'echoes/s':40} {1000 / echo_ms:10.0f}")
        print(f"{'appends/s':40} {1000 / append_ms:10.0f}")
    store.close()
    server.communicate()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", uri]:
            serve(uri)
        case ["produce", address, count]:
            produce(address, int(count))
        case [uri]:
            main(uri)
        case []:
            main("")
