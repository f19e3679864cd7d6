import pytest

from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blob_manager import BlobManagerContract, MemoryBlobManager


class TestMemoryBlobManager(BlobManagerContract):
    @pytest.fixture
    def blobs(self) -> BlobManager:
        return MemoryBlobManager()
