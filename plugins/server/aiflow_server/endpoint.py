"""RpcEndpoint: a scheduler, served over gRPC."""

import errno
import logging
import socket
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc

from aiflow_core.errors import AIFlowError, ConfigError, ConflictError, PluginError
from aiflow_core.specs.endpoint import Endpoint
from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.scheduler import Scheduler, offers, request
from aiflow_server.rpc import METHODS, REQUEST_ID, SERVICE, Method, encode_error, encode_result

log = logging.getLogger(__name__)

# A definition of a hundred thousand tasks; what is larger is a mistake or an attack.
MAX_REQUEST_BYTES = 64 * 1024 * 1024

GRACE = 5.0


class RpcEndpoint(Endpoint):
    """Serves the scheduler's contracts, method by method.

    Args:
        host: address to listen at; `0.0.0.0` lets other machines in, unauthenticated.
        port: 0 is any free one.
        threads: how many requests are worked on at once; further ones wait.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 50051, threads: int = 32) -> None:
        self._host = host
        self._port = port
        self._threads = threads

    def start(self, stack: ExitStack, events: EventStore, scheduler: Scheduler | None) -> str:
        if scheduler is None:
            raise PluginError("The endpoint 'rpc' serves a scheduler, and there is none.")
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="rpc")
        stack.callback(pool.shutdown)
        server = grpc.server(
            pool,
            options=[
                # Without this, two servers could share one port and split its requests.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                # Clients that wait for an answer look whether this server is still there.
                ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(_handler(method, scheduler))
            for name, method in METHODS.items()
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        try:
            port = server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise self._cannot_listen() from error
        server.start()
        stack.callback(lambda: server.stop(GRACE).wait())
        return f"{self._host}:{port}"

    def _cannot_listen(self) -> AIFlowError:
        """Why gRPC could not bind: it does not say, but the socket does."""
        where = f"{self._host}:{self._port}"
        try:
            with socket.create_server((self._host, self._port)):
                reason = "gRPC could not bind it"
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return ConflictError(
                    f"Port {self._port} of {self._host} is in use.",
                    next_step="Stop what listens there, or set another rpc_port.",
                )
            reason = error.strerror or str(error)
        return ConfigError(
            f"Cannot listen at {where}: {reason}.", next_step="Set another rpc_host or rpc_port."
        )


def _handler(
    method: Method, scheduler: Scheduler
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        request_id = str(metadata.get(REQUEST_ID) or uuid.uuid4().hex)
        try:
            target = offers(scheduler, method.contract)
            arguments = method.decode_arguments(body)
            with request(request_id):
                return encode_result(getattr(target, method.name)(**arguments))
        except AIFlowError as error:
            return encode_error(error)
        except Exception:
            log.exception("%s failed (request %s)", method.name, request_id)
            return encode_error(
                AIFlowError(
                    "The AIFlow server failed with an internal error.",
                    next_step=f"Its log has the details, under request {request_id}.",
                )
            )

    return handle
