"""What a blob manager of one's own subclasses."""

from ai_flow.blob_manager.blob_manager_interface import BlobManager, BlobManagerFactory
from ai_flow.blob_manager.blob_manager_interface import BlobManagerConfig as BlobConfig

__all__ = ["BlobConfig", "BlobManager", "BlobManagerFactory"]
