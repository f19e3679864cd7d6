"""Workflows, rules, conditions and statuses under the import names of AIFlow 0.4."""
