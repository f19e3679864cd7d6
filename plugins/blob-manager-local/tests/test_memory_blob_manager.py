"""The double that ships is a blob manager like any other."""

import pytest

from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blob_manager import (
    BucketBlobManagerContract,
    Make,
    MemoryBlobManager,
    MemoryStorage,
)


class TestMemoryBlobManager(BucketBlobManagerContract):
    holds_content = True
    secret = "not-the-right-one"

    @pytest.fixture
    def storage(self) -> MemoryStorage:
        return MemoryStorage()

    @pytest.fixture
    def make(self, storage: MemoryStorage) -> Make:
        return lambda root: MemoryBlobManager(storage, root)

    @pytest.fixture
    def with_wrong_credentials(self) -> BlobManager:
        return MemoryBlobManager(MemoryStorage(secret="the right one"), secret=self.secret)

    @pytest.fixture
    def without_bucket(self) -> BlobManager:
        return MemoryBlobManager(MemoryStorage(exists=False))

    @pytest.fixture
    def read_only(self, storage: MemoryStorage) -> BlobManager:
        reading = MemoryStorage(is_writable=False)
        reading.objects = storage.objects
        return MemoryBlobManager(reading, "root")

    @pytest.fixture
    def unreachable(self) -> BlobManager:
        return MemoryBlobManager(MemoryStorage(is_reachable=False))
