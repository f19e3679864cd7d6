"""Where a deployment has its own files."""

from aiflow_core import config

AIFLOW_HOME: str


def __getattr__(name: str) -> str:
    # Looked up when it is asked for: the environment may change after the import.
    if name == "AIFLOW_HOME":
        return str(config.home())
    raise AttributeError(f"module 'ai_flow.settings' has no attribute {name!r}")
