"""The version."""

from aiflow_core import __version__

__all__ = ["__version__"]
