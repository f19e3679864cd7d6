"""Names of settings."""


class WorkflowPropertyKeys:
    """Sections of `project.yaml`."""

    BLOB = "blob"


__all__ = ["WorkflowPropertyKeys"]
