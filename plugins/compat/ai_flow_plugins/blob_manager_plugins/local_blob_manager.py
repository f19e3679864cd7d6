"""The blob manager that keeps files in a directory."""

from aiflow_blob_manager_local.blob_manager import LocalBlobManager

__all__ = ["LocalBlobManager"]
