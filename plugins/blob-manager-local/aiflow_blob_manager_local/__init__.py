"""Keeps workflow code in a directory: `aiflow_blob_manager_local.blob_manager.LocalBlobManager`."""

aiflow_api = ">=1,<2"
