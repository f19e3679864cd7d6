"""The contract suite of blob managers, and a blob manager that keeps everything in memory.

Subclass as `Test...` one of the four contracts at the end, which grow with what a store is, and
make managers in the fixture `make`. As a pytest plugin, `-p aiflow_core.testing.blob_manager`, it
has two options: how large the large file is, and how many files are listed.
"""

import pytest

from aiflow_core.testing.blobs.base import BlobContract, Make, QuickClock
from aiflow_core.testing.blobs.faults import FaultsContract
from aiflow_core.testing.blobs.files import FilesContract
from aiflow_core.testing.blobs.memory import MemoryBlobManager, MemoryStorage
from aiflow_core.testing.blobs.projects import ProjectsContract
from aiflow_core.testing.blobs.remote import AccountsContract, BucketContract, RemoteContract
from aiflow_core.testing.blobs.sharing import SharingContract

__all__ = [
    "AccountsBlobManagerContract",
    "BlobContract",
    "BlobManagerContract",
    "BucketBlobManagerContract",
    "Make",
    "MemoryBlobManager",
    "MemoryStorage",
    "QuickClock",
    "RemoteBlobManagerContract",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--blob-mib", type=int, default=48, help="size of the large file of blob stores, in MiB"
    )
    parser.addoption(
        "--blob-objects", type=int, default=200, help="how many files of blob stores are listed"
    )


class BlobManagerContract(FilesContract, SharingContract, FaultsContract, ProjectsContract):
    """What every blob manager must do."""


class RemoteBlobManagerContract(BlobManagerContract, RemoteContract):
    """What one must do whose store is behind a network, and tells its users apart."""


class AccountsBlobManagerContract(RemoteBlobManagerContract, AccountsContract):
    """What one must do whose store asks for a proof of who one is."""


class BucketBlobManagerContract(AccountsBlobManagerContract, BucketContract):
    """What one must do whose store has buckets, which somebody else makes."""
