"""Keeps files in Alibaba Cloud OSS: `aiflow_blob_manager_oss.blob_manager.OssBlobManager`."""

aiflow_api = ">=1,<2"
