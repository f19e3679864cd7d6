"""Spark applications and SQL scripts as tasks: `aiflow_operator_spark.operator`."""

aiflow_api = ">=1,<2"
