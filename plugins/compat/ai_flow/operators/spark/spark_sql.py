"""The operator for SQL that Spark executes; its plugin must be installed."""

from ai_flow.model.operator import AIFlowOperator
from ai_flow.operators.absent import refusal

try:
    from aiflow_operator_spark.operator import SparkSqlOperator
except ModuleNotFoundError as error:
    raise refusal("SparkSqlOperator", "spark") from error

# In 0.4 it is a subclass.
AIFlowOperator.register(SparkSqlOperator)

__all__ = ["SparkSqlOperator"]
