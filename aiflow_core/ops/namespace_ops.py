"""Operations on namespaces."""

from typing import Any

from aiflow_core.model.execution import Namespace
from aiflow_core.ops.client import server


def add_namespace(name: str, properties: dict[str, Any] | None = None) -> Namespace:
    """Create a namespace; a conflict when there is one of this name."""
    with server() as client:
        return client.add_namespace(name, properties)


def get_namespace(name: str) -> Namespace:
    """The namespace of this name."""
    with server() as client:
        return client.get_namespace(name)


def update_namespace(name: str, properties: dict[str, Any]) -> Namespace:
    """Replace the properties of a namespace."""
    with server() as client:
        return client.update_namespace(name, properties)


def list_namespace(limit: int | None = None, offset: int | None = None) -> list[Namespace]:
    """All namespaces, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_namespaces(limit, offset or 0)


def delete_namespace(name: str) -> None:
    """Delete a namespace; a conflict while it has workflows."""
    with server() as client:
        client.delete_namespace(name)
