"""Keeps files in HDFS: `aiflow_blob_manager_hdfs.blob_manager.HDFSBlobManager`."""

aiflow_api = ">=1,<2"
