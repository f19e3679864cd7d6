"""Prometheus metrics of a deployment: `aiflow_hooks_metrics.hooks.Metrics`."""

aiflow_api = ">=1,<2"
