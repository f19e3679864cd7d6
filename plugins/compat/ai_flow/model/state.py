"""State of conditions. There is one kind, a value; the general names mean the same."""

from aiflow_core.model.context import ValueState, ValueStateDescriptor

State = ValueState
StateDescriptor = ValueStateDescriptor


class StateType:
    """The kinds of state."""

    VALUE = "value"


__all__ = ["State", "StateDescriptor", "StateType", "ValueState", "ValueStateDescriptor"]
