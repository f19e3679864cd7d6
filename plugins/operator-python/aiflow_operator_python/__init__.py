"""A task that is a Python function: `aiflow_operator_python.operator.PythonOperator`."""

aiflow_api = ">=1,<2"
