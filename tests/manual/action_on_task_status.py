from ai_flow.model.action import TaskAction
from ai_flow.model.status import TaskStatus
from ai_flow.model.workflow import Workflow
from ai_flow.operators.bash import BashOperator

with Workflow(name='my_workflow') as workflow:
    task1 = BashOperator(name='task_1',
                          bash_command='sleep 10')
    task2 = BashOperator(name='task_2',
                          bash_command='sleep 20')
    task3 = BashOperator(name='task_3',
                          bash_command='sleep 100')
    task3.action_on_task_status(action=TaskAction.STOP,
                               upstream_task_status_dict={
                                   task1: TaskStatus.SUCCESS,
                                   task2: TaskStatus.SUCCESS
                               })
