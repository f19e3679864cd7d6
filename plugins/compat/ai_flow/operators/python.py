"""The task that is a Python function."""

from aiflow_operator_python.operator import PythonOperator

__all__ = ["PythonOperator"]
