"""A deployment of two servers for the tests that need just any."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from .servers import TwoServers, quickstart

# What is asked of a change is the same for everybody; who looks for more lets chance choose.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def two_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoServers]:
    """The deployment of the quickstart, on ports that are free."""
    with quickstart(tmp_path_factory.mktemp("two-servers")) as servers:
        yield servers
