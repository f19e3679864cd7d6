"""A task that runs every second, and one that runs each time the first has succeeded."""

from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="periodic_workflow") as workflow:
    tick = BashOperator(
        name="tick",
        bash_command="echo tick at $(date +%T)",
        periodic_expression="interval@0 0 0 1",  # days hours minutes seconds
    )
    tock = BashOperator(name="tock", bash_command="echo tock")

    tock.start_after(tick)
