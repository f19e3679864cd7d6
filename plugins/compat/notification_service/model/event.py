"""Events under the import names of AIFlow 0.4."""

from aiflow_core.model.event import ANY_KEY as ANY_CONDITION
from aiflow_core.model.event import Event

# Exported by 0.4 and used nowhere in it: events without a namespace are in "", those of workflows
# in "default".
DEFAULT_NAMESPACE = "DEFAULT"

__all__ = ["ANY_CONDITION", "DEFAULT_NAMESPACE", "Event"]
