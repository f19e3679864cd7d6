"""The blob manager that keeps files in HDFS; its plugin must be installed."""

from aiflow_blob_manager_hdfs.blob_manager import HDFSBlobManager

__all__ = ["HDFSBlobManager"]
