from ai_flow.model.workflow import Workflow
from ai_flow.operators.bash import BashOperator

with Workflow(name='workflow_name') as workflow:
    task1 = BashOperator(name='task_1',
                        bash_command='echo I am the 1st task')
    task2 = BashOperator(name='task_2',
                        bash_command='echo I am the 2nd task')
    task2.start_after([task1, ])
