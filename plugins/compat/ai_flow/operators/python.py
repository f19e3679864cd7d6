"""The task that is a Python function."""

from ai_flow.model.operator import AIFlowOperator
from aiflow_operator_python.operator import PythonOperator

# In 0.4 it is a subclass.
AIFlowOperator.register(PythonOperator)

__all__ = ["PythonOperator"]
