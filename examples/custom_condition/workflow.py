"""A task that starts when the numbers in a stream of events add up to 100."""

import random

from aiflow_core import (
    Condition,
    Context,
    Event,
    TaskAction,
    ValueStateDescriptor,
    Workflow,
)
from aiflow_notification_server.client import AIFlowNotificationClient
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator

GOAL = 100


class NumCondition(Condition):
    """Met when the values of the events add up to the goal; then it counts from 0 again."""

    def is_met(self, event: Event, context: Context) -> bool:
        state = context.get_state(ValueStateDescriptor(name="num_state"))
        total = (state.value() or 0) + int(event.value or 0)
        if total >= GOAL:
            state.clear()
            return True
        state.update(total)
        return False


def produce() -> None:
    """Send random numbers until their sum reaches the goal."""
    total = 0
    with AIFlowNotificationClient() as client:
        while total < GOAL:
            number = random.randint(1, 9)
            total += number
            client.send_event("num_event", str(number))
    print(f"Sent numbers that add up to {total}.")


with Workflow(name="condition_workflow") as workflow:
    producer = PythonOperator(name="producer", python_callable=produce)
    consumer = BashOperator(name="consumer", bash_command=f"echo Got {GOAL} records.")

    consumer.action_on_condition(TaskAction.START, NumCondition(expect_event_keys=["num_event"]))
