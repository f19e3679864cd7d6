"""What a blob manager of one's own subclasses, and how one is made from settings."""

from functools import wraps
from typing import Any

from aiflow_core import plugins
from aiflow_core.specs import blob_manager


class BlobManager(blob_manager.BlobManager):
    """A blob manager as 0.4 wants it: `__init__` takes one dict of all settings."""

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

    def delete(self, remote_file_path: str) -> None:
        """Nothing: 0.4 never deleted."""


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
