"""Traces of what led to what: `aiflow_hooks_otel.hooks.Traces`."""

aiflow_api = ">=1,<2"
