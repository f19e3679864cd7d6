"""`SparkSubmitOperator`, which is not here yet."""

from typing import NoReturn

from ai_flow.operators.absent import refusal


def __getattr__(name: str) -> NoReturn:
    raise refusal(__name__, name, "SparkSubmitOperator", "spark-submit")
