"""Runs tasks as processes of this machine: `aiflow_executor_local.executor.LocalExecutor`."""
