"""Two workflows: an event that a task of the first one sends starts the second one.

Run as a script it uploads both, sets the trigger and starts the first.
"""

from aiflow_core import SingleEventCondition, Workflow, WorkflowRule, ops
from aiflow_notification_server.client import AIFlowNotificationClient
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator

EVENT_KEY = "data_collected"


def collect() -> None:
    """Stands for a task that collects data and says so."""
    with AIFlowNotificationClient() as client:
        client.send_event(EVENT_KEY)


with Workflow(name="collect_workflow") as collecting:
    PythonOperator(name="collect", python_callable=collect)

with Workflow(name="evaluate_workflow") as evaluating:
    BashOperator(name="evaluate", bash_command="echo I was started by an event.")

if __name__ == "__main__":
    ops.upload_workflows(__file__)
    ops.add_workflow_trigger(WorkflowRule(SingleEventCondition(EVENT_KEY)), evaluating.name)
    ops.start_workflow_execution(collecting.name)
