"""The parts of the contract suite of blob managers; `aiflow_core.testing.blob_manager` is all."""
