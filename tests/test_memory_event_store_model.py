"""The log in memory against a model of a log."""

import pytest

from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_core.testing.event_store_model import LogMachine
from aiflow_core.testing.models import Runner

pytestmark = pytest.mark.model


def test_the_log_is_what_the_model_says(run_model: Runner) -> None:
    run_model(lambda: LogMachine(MemoryEventStore), runs=120)
