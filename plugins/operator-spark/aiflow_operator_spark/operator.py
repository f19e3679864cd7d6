"""The operators for Spark."""

import shlex
from abc import abstractmethod
from typing import Any

from aiflow_core.errors import AIFlowError, DefinitionError
from aiflow_core.model.parameters import mentions_event
from aiflow_core.programs import Program, check_options, find_program, telling_line
from aiflow_core.specs.operator import Operator, TaskContext


class _SparkOperator(Operator):
    """A task that is a program of Spark, in which the driver runs.

    It belongs to the process group of the task, so that whatever ends the task ends the driver,
    and with the driver its executors.
    """

    program: str

    def __init__(
        self,
        name: str,
        master: str,
        application_name: str,
        executable_path: str | None,
        **config: Any,
    ) -> None:
        super().__init__(name, **config)
        self.master = master
        self.application_name = application_name
        self.executable_path = executable_path
        self.env_vars: dict[str, Any] | None = None
        self._process: Program | None = None

    @abstractmethod
    def arguments(self) -> list[str]:
        """What stands on the command line behind the name of the application."""

    def start(self, context: TaskContext) -> None:
        path = find_program(self.program, self.executable_path, "SPARK_HOME")
        command = [path, "--master", self.master, "--name", self.application_name]
        env = {name: str(value) for name, value in (self.env_vars or {}).items()}
        self._process = Program([*command, *self.arguments()], env)

    def await_termination(self, context: TaskContext, timeout: int | None = None) -> None:
        assert self._process is not None
        code = self._process.wait(timeout)
        if code != 0:
            said = telling_line(self._process.output) or "it says nothing"
            raise AIFlowError(f"{self.program} failed with exit code {code}: {said}")

    def stop(self, context: TaskContext) -> None:
        if self._process is not None:
            self._process.terminate()


class SparkSubmitOperator(_SparkOperator):
    """Runs an application with `spark-submit`, and succeeds when that exits with 0.

    The driver runs in the task (`deploy_mode` client), the executors where the master says. Its
    output goes to the task's log as it comes.

    Args:
        application: the jar, Python file or R file.
        application_args: what the application is given.
        executable_path: the path of `spark-submit`; that in PATH, else that of `$SPARK_HOME`,
            unless given.
        master: `yarn`, `spark://host:port`, `k8s://https://host:port`, `local` or `local[n]`.
        deploy_mode: `client`; `cluster` is not offered, and refused.
        application_name: what Spark calls it; `spark_submit_task_` and the task's name unless
            given.
        submit_options: further options of `spark-submit` as on a command line, such as
            `--class com.example.Main --conf spark.executor.memory=2g`.
        k8s_namespace: the namespace in Kubernetes, which a `k8s://` master needs.
        env_vars: environment variables of the driver, and with `yarn` of the application master.
    """

    program = "spark-submit"

    def __init__(
        self,
        name: str,
        application: str,
        application_args: list[Any] | None = None,
        executable_path: str | None = None,
        master: str = "yarn",
        deploy_mode: str = "client",
        application_name: str | None = None,
        submit_options: str | None = None,
        k8s_namespace: str | None = None,
        env_vars: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        _check(name, master, deploy_mode, k8s_namespace, submit_options)
        application_name = application_name or f"spark_submit_task_{name}"
        super().__init__(name, master, application_name, executable_path, **config)
        self.application = application
        self.application_args = application_args
        self.deploy_mode = deploy_mode
        self.submit_options = submit_options
        self.k8s_namespace = k8s_namespace
        self.env_vars = env_vars

    def arguments(self) -> list[str]:
        settings = {}
        if self.master.startswith("k8s://"):
            settings["spark.kubernetes.namespace"] = self.k8s_namespace
        if self.master.startswith("yarn"):
            for name, value in (self.env_vars or {}).items():
                settings[f"spark.yarn.appMasterEnv.{name}"] = value
        return [
            *("--deploy-mode", self.deploy_mode),
            *(word for name, value in settings.items() for word in ("--conf", f"{name}={value}")),
            *shlex.split(self.submit_options or ""),
            self.application,
            *map(str, self.application_args or ()),
        ]


class SparkSqlOperator(_SparkOperator):
    """Executes SQL with `spark-sql`, and succeeds when that exits with 0.

    The driver runs in the task. Its output goes to the task's log as it comes.

    Args:
        sql: statements, separated by `;`, or the path of a file with them that ends in `.sql` or
            `.hql`. It holds no `${event...}`: what an event says would be executed.
        master: as of `spark-submit`: `yarn`, `spark://host:port`, `k8s://https://host:port`,
            `local` or `local[n]`.
        application_name: what Spark calls it; `spark_sql_task_` and the task's name unless given.
        executable_path: the path of `spark-sql`; that in PATH, else that of `$SPARK_HOME`, unless
            given.
    """

    program = "spark-sql"

    def __init__(
        self,
        name: str,
        sql: str,
        master: str = "yarn",
        application_name: str | None = None,
        executable_path: str | None = None,
        **config: Any,
    ) -> None:
        if not sql.strip():
            raise DefinitionError(f"The task {name!r} has no SQL to execute.")
        if mentions_event(sql):
            raise DefinitionError(
                f"The SQL of task {name!r} holds ${{event...}}, and Spark would execute what an "
                "event says.",
                next_step="Give it to an application as one of its `application_args`, see "
                "SparkSubmitOperator.",
            )
        application_name = application_name or f"spark_sql_task_{name}"
        super().__init__(name, master, application_name, executable_path, **config)
        self.sql = sql

    def arguments(self) -> list[str]:
        sql = self.sql.strip()
        return ["-f" if sql.endswith((".sql", ".hql")) else "-e", sql]


def _check(
    name: str, master: str, deploy_mode: str, k8s_namespace: str | None, options: str | None
) -> None:
    if deploy_mode not in ("client", "cluster"):
        raise DefinitionError(
            f"The `deploy_mode` {deploy_mode!r} of task {name!r} is none.",
            next_step="It is `client`.",
        )
    if deploy_mode == "cluster":
        raise DefinitionError(
            f"The `deploy_mode` cluster, which task {name!r} wants, is not offered: only client "
            "mode is.",
            next_step="Use `client`, or call `spark-submit --deploy-mode cluster` in a "
            "BashOperator.",
        )
    if master.startswith("k8s://") and not k8s_namespace:
        raise DefinitionError(
            f"Param k8s_namespace must be set when submit to k8s, and task {name!r} has none.",
            next_step="Give `k8s_namespace`.",
        )
    check_options(name, "submit_options", options, "`application_args` or `env_vars`")
