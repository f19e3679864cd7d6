"""Keeps files in what fsspec speaks: `aiflow_blob_manager_fsspec.blob_manager`."""

aiflow_api = ">=1,<2"
