"""Keeps files in S3: `aiflow_blob_manager_s3.blob_manager.S3BlobManager`."""

aiflow_api = ">=1,<2"
