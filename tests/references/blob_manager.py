class MineBlobManager:
    def __init__(self):
        from aiflow_core.testing.blob_manager import MemoryBlobManager

        self.inner = MemoryBlobManager()
