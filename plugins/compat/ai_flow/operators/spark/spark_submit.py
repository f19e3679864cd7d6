"""The operator for Spark applications; its plugin must be installed."""

from ai_flow.model.operator import AIFlowOperator
from ai_flow.operators.absent import refusal

try:
    from aiflow_operator_spark.operator import SparkSubmitOperator
except ModuleNotFoundError as error:
    raise refusal("SparkSubmitOperator", "spark") from error

# In 0.4 it is a subclass.
AIFlowOperator.register(SparkSubmitOperator)

__all__ = ["SparkSubmitOperator"]
