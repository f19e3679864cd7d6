"""The operator for Flink; its plugin must be installed."""

from ai_flow.model.operator import AIFlowOperator
from ai_flow.operators.absent import refusal

try:
    from aiflow_operator_flink.operator import FlinkOperator
except ModuleNotFoundError as error:
    raise refusal("FlinkOperator", "flink") from error

# In 0.4 it is a subclass.
AIFlowOperator.register(FlinkOperator)

__all__ = ["FlinkOperator"]
