"""A task that is a Flink job: `aiflow_operator_flink.operator.FlinkOperator`."""

aiflow_api = ">=1,<2"
