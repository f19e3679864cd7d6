"""Traces of what led to what: `aiflow_hooks_otel.hooks.Traces`."""
