"""A deployment of two servers for the tests that need just any."""

from collections.abc import Iterator

import pytest

from .servers import TwoServers, quickstart


@pytest.fixture(scope="session")
def two_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoServers]:
    """The deployment of the quickstart, on ports that are free."""
    with quickstart(tmp_path_factory.mktemp("two-servers")) as servers:
        yield servers
