"""Operations on namespaces."""

from ai_flow.ops.absent import none_if_absent
from aiflow_core.ops import namespace_ops
from aiflow_core.ops.namespace_ops import (
    add_namespace,
    delete_namespace,
    list_namespace,
)

get_namespace = none_if_absent(namespace_ops.get_namespace)
update_namespace = none_if_absent(namespace_ops.update_namespace)

__all__ = [
    "add_namespace",
    "delete_namespace",
    "get_namespace",
    "list_namespace",
    "update_namespace",
]
