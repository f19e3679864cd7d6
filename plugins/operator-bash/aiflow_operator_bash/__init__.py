"""A task that is a shell command: `aiflow_operator_bash.operator.BashOperator`."""

aiflow_api = ">=1,<2"
