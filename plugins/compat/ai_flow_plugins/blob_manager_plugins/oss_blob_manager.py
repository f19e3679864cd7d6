"""The blob manager that keeps files in Alibaba Cloud OSS; its plugin must be installed."""

from aiflow_blob_manager_oss.blob_manager import OssBlobManager

__all__ = ["OssBlobManager"]
