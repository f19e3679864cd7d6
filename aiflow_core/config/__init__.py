"""Settings: YAML files, read into checked structs, with the environment on top.

A plugin with a settings file of its own (the notification server has one) derives a struct from
`Settings`, gives its fields a `key` each, and reads it with `load`.
"""

from aiflow_core.config.keys import (
    ClientSettings,
    ObserverSettings,
    PluginSettings,
    ProjectSettings,
    ServerSettings,
)
from aiflow_core.config.places import (
    PROJECT_VARIABLE,
    client_settings,
    home,
    project_file,
    project_settings,
    read_client,
    read_project,
    read_server,
    server_settings,
)
from aiflow_core.config.reading import Loaded, load, read
from aiflow_core.config.schema import default_file, json_schema, table
from aiflow_core.config.settings import Driver, Key, Port, Seconds, Settings, key, keys
from aiflow_core.config.sources import OVERRIDE_PREFIX, Origin

__all__ = [
    "OVERRIDE_PREFIX",
    "PROJECT_VARIABLE",
    "ClientSettings",
    "Driver",
    "Key",
    "Loaded",
    "ObserverSettings",
    "Origin",
    "PluginSettings",
    "Port",
    "ProjectSettings",
    "Seconds",
    "ServerSettings",
    "Settings",
    "client_settings",
    "default_file",
    "home",
    "json_schema",
    "key",
    "keys",
    "load",
    "project_file",
    "project_settings",
    "read",
    "read_client",
    "read_project",
    "read_server",
    "server_settings",
    "table",
]
