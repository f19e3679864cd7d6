"""Serves a scheduler over gRPC (`RpcEndpoint`), and is its client (`RemoteScheduler`)."""

from aiflow_server.endpoint import RpcEndpoint
from aiflow_server.scheduler import RemoteScheduler

aiflow_api = ">=1,<2"

__all__ = ["RemoteScheduler", "RpcEndpoint"]
