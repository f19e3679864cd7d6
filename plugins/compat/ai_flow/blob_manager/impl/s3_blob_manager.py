"""The blob manager that keeps files in S3; its plugin must be installed."""

from aiflow_blob_manager_s3.blob_manager import S3BlobManager

__all__ = ["S3BlobManager"]
