"""The project's settings."""

from typing import Any

from aiflow_core.config import client_settings, project_settings


def current_project_config() -> dict[str, Any]:
    """The section `blob`: which blob manager the settings name, and its own settings."""
    blob = project_settings().blob or client_settings().blob_manager
    return {"blob": {"blob_manager_class": blob.type, "blob_manager_config": blob.config}}


__all__ = ["current_project_config"]
