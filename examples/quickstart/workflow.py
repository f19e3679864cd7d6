"""Four tasks: two start at once, the third after both, the fourth when an event tells it to."""

import time

from aiflow_core import TaskAction, Workflow
from aiflow_notification_server.client import AIFlowNotificationClient
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator

EVENT_KEY = "key"


def send() -> None:
    """Stands for a task that works for a while and then has something to tell."""
    time.sleep(1)
    print(f"Sending event with key: {EVENT_KEY}")
    with AIFlowNotificationClient() as client:
        client.send_event(EVENT_KEY, "This is a custom message.")


with Workflow(name="quickstart_workflow") as workflow:
    task1 = BashOperator(name="task1", bash_command="echo I am the 1st task.")
    task2 = BashOperator(name="task2", bash_command="echo I am the 2nd task.")
    task3 = PythonOperator(name="task3", python_callable=send)
    task4 = BashOperator(name="task4", bash_command="echo I am the 4th task.")

    task3.start_after([task1, task2])
    task4.action_on_event_received(TaskAction.START, event_key=EVENT_KEY)
