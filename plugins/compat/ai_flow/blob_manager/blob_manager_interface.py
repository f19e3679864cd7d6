"""What a blob manager of one's own subclasses, and how one is made from settings."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from aiflow_core import plugins
from aiflow_core.errors import UsageError
from aiflow_core.specs import blob_manager
from aiflow_core.specs.blob_transfer import Counter, Source


class BlobManager(blob_manager.BlobManager):
    """A blob manager as 0.4 wants it: `__init__` takes one dict of all settings, and `upload` and
    `download` are written by hand. So the uris are its own, and it can neither list nor delete."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        written = cls.__init__

        @wraps(written)
        def init(self: Any, config: dict[str, Any] | None = None, **settings: Any) -> None:
            written(self, settings if config is None else config)

        # What makes plugins looks at the signature, and passes settings as keywords.
        del init.__wrapped__
        cls.__init__ = init  # type: ignore[method-assign]

    @abstractmethod
    def upload(self, local_file_path: str | Path) -> str:  # type: ignore[override]
        """Keep a copy of the file and return its uri."""

    @abstractmethod
    def download(self, remote_file_path: str, local_dir: str | Path) -> Path:  # type: ignore[override]
        """Put the file of that uri into the directory and return its path."""

    def delete(self, remote_file_path: str) -> None:
        """Nothing: 0.4 never deleted."""

    def upload_project(self, workflow_snapshot_id: str | int, project_path: str | Path) -> str:
        """Upload an archive of the directory."""
        with blob_manager.packed_project(project_path) as packed:
            return self.upload(packed)

    def cleanup_project(self, workflow_snapshot_id: str | int, remote_path: str) -> None:
        """Delete the project."""
        self.delete(remote_path)

    def _put(self, key: str, source: Source, count: Counter) -> None:
        raise self._absent("store under a key")

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        raise self._absent("read a part of a file")

    def _stat(self, key: str) -> blob_manager.Blob | None:
        raise self._absent("say what is there")

    def _list(self, prefix: str, after: str) -> Iterator[blob_manager.Blob]:
        raise self._absent("list what is there")

    def _delete(self, key: str) -> None:
        raise self._absent("delete")

    def _absent(self, what: str) -> UsageError:
        return UsageError(
            f"The blob manager {type(self).__name__} was written for AIFlow 0.4 and cannot {what}.",
            next_step="Let it subclass aiflow_core.BlobManager and define its hooks.",
        )


class BlobManagerConfig:
    """The settings `{"blob_manager_class": ..., "blob_manager_config": {...}}`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def get_class(self) -> str:
        """Entry-point name or dotted name of the class."""
        return str(self._config["blob_manager_class"])

    def get_customized_config(self) -> dict[str, Any]:
        """The blob manager's own settings."""
        return dict(self._config.get("blob_manager_config") or {})

    blob_manager_class = get_class
    blob_manager_config = get_customized_config


class BlobManagerFactory:
    """Makes blob managers."""

    @staticmethod
    def create_blob_manager(
        config: BlobManagerConfig | str, settings: dict[str, Any] | None = None
    ) -> blob_manager.BlobManager:
        """The blob manager of a `BlobManagerConfig`, or of a class name and its settings."""
        if isinstance(config, str):
            config = BlobManagerConfig(
                {"blob_manager_class": config, "blob_manager_config": settings}
            )
        made: blob_manager.BlobManager = plugins.make(
            "aiflow.blob_manager", config.get_class(), config.get_customized_config()
        )
        return made


__all__ = ["BlobManager", "BlobManagerConfig", "BlobManagerFactory"]
