"""BlobManager: where bundles and the files of workflows are kept."""

from abc import ABC, abstractmethod
from pathlib import Path


class BlobManager(ABC):
    """Keeps files by content.

    Errors: `NotFoundError` for a uri that names nothing here, `UnavailableError` when the storage
    does not answer, `UsageError` for a uri that this manager did not make.

    Constructor keywords are the manager's settings. All methods may be called from any thread.
    """

    @abstractmethod
    def upload(self, local_file_path: str | Path) -> str:
        """Keep a copy of the file and return its uri.

        The uri is a function of the content (and of the file's suffix): the same content again is
        the same uri. A reader sees the whole file or none. The local file stays as it is.
        """

    @abstractmethod
    def download(self, remote_file_path: str, local_dir: str | Path) -> Path:
        """Put the file of that uri into the directory (made if missing) and return its path.

        The content is verified, and the local file appears whole or not at all.
        """

    @abstractmethod
    def delete(self, remote_file_path: str) -> None:
        """Forget the file of that uri; nothing happens when it is not there."""
