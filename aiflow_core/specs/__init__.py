"""What a plugin must be: one contract per file."""

API_VERSION = 1
"""The version of the contracts in here and of `aiflow_core.hookspecs`, which plugins name in their
`aiflow_api`. It rises by one when a plugin that fulfilled them may have to be changed."""
