def workflow_execution_changed(execution):
    log.info("execution %d: %s", execution.id, execution.status)  # noqa: F821


def task_execution_changed(task_execution):
    log.info("%s: %s", task_execution.attempt, task_execution.status)  # noqa: F821
