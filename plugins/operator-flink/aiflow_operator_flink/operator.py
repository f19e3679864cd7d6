"""The operator for Flink."""

import shlex
from collections.abc import Iterator
from typing import Any

from aiflow_core.errors import AIFlowError, DefinitionError
from aiflow_core.programs import Program, check_options, find_program, telling_line
from aiflow_core.specs.job import JobOperator
from aiflow_core.specs.operator import TaskContext

from .controller import FlinkController, FlinkJob

_TARGETS = ("local", "remote", "yarn-session", "kubernetes-session")


class FlinkOperator(JobOperator[FlinkJob]):
    """Submits a job to a Flink cluster with `flink run`, and succeeds when the job has finished.

    The id of the job follows from the attempt. If the task's process dies, a retry finds the job
    and takes it over. So an application has one job: a second `execute()` would have the same id.
    With the target `local` the job runs in the client, and dies with it.

    Args:
        application: the jar or Python file.
        target: where the job runs, as `execution.target` of Flink: `local`, `remote`,
            `yarn-session` or `kubernetes-session`. Flink's configuration says it unless given.
        application_args: what the application is given.
        executable_path: the path of `flink`; that in PATH, else that of `$FLINK_HOME`, unless
            given.
        application_mode: not offered; True is refused.
        stop_with_savepoint: whether the job leaves a savepoint when the task is stopped, in the
            directory `-Dexecution.checkpointing.savepoint-dir=` of the `command_options`, or in
            that of the cluster's configuration.
        kubernetes_cluster_id: the cluster, which `kubernetes-session` needs.
        command_options: further options of `flink run` as on a command line, such as
            `-c com.example.Main -Dparallelism.default=2`. With `-m host:port`, or
            `-Drest.address=` and `-Drest.port=`, the job is looked at by REST, which says more and
            costs less than a command.
        jobs_info_poll_interval: seconds from one look at the job to the next.
    """

    def __init__(
        self,
        name: str,
        application: str,
        target: str | None = None,
        application_args: list[Any] | None = None,
        executable_path: str | None = None,
        application_mode: bool = False,
        stop_with_savepoint: bool = False,
        kubernetes_cluster_id: str | None = None,
        command_options: str | None = None,
        jobs_info_poll_interval: int = 1,
        **config: Any,
    ) -> None:
        _check(name, target, application_mode, kubernetes_cluster_id, command_options)
        super().__init__(name, **config)
        self.application = application
        self.target = target
        self.application_args = application_args
        self.executable_path = executable_path
        self.stop_with_savepoint = stop_with_savepoint
        self.kubernetes_cluster_id = kubernetes_cluster_id
        self.command_options = command_options
        self.poll_interval = jobs_info_poll_interval
        self._local: Program | None = None

    def controller(self) -> FlinkController:
        options = self._options()
        return FlinkController(
            self._program(),
            cluster=(*self._target_options(), *_cluster_options(options)),
            rest=_rest_address(options) if self.target in (None, "remote") else None,
            with_savepoint=self.stop_with_savepoint,
            poll_interval=self.poll_interval,
            savepoints=_savepoint_directory(options),
        )

    def job(self, context: TaskContext) -> FlinkJob:
        options = self._options()
        for option in _cluster_options(options):
            options.remove(option)
        return FlinkJob(
            options=tuple(options),
            application=self.application,
            args=tuple(map(str, self.application_args or ())),
        )

    def start(self, context: TaskContext) -> None:
        if self.target != "local":
            super().start(context)
            return
        args = map(str, self.application_args or ())
        self._local = Program(
            [self._program(), "run", "-t", "local", *self._options(), self.application, *args]
        )

    def await_termination(self, context: TaskContext, timeout: int | None = None) -> None:
        if self._local is None:
            super().await_termination(context, timeout)
        elif code := self._local.wait(timeout):
            said = telling_line(self._local.output) or "it says nothing"
            raise AIFlowError(f"flink run failed with exit code {code}: {said}")

    def stop(self, context: TaskContext) -> None:
        if self._local is None:
            super().stop(context)
        else:
            self._local.terminate()

    def _program(self) -> str:
        return find_program("flink", self.executable_path, "FLINK_HOME")

    def _options(self) -> list[str]:
        return shlex.split(self.command_options or "")

    def _target_options(self) -> list[str]:
        options = [] if self.target is None else ["-t", self.target]
        if self.kubernetes_cluster_id is not None:
            options.append(f"-Dkubernetes.cluster-id={self.kubernetes_cluster_id}")
        return options


def _check(
    name: str,
    target: str | None,
    application_mode: bool,
    kubernetes_cluster_id: str | None,
    command_options: str | None,
) -> None:
    if application_mode:
        raise DefinitionError(
            f"The application mode, which task {name!r} wants, is not offered.",
            next_step="Submit to a session cluster, or call `flink run-application` in a "
            "BashOperator.",
        )
    if target is not None and target not in _TARGETS:
        raise DefinitionError(
            f"The target {target!r} of task {name!r} is none that `flink run` is given here.",
            next_step=f"It is one of {', '.join(_TARGETS)}.",
        )
    if target == "kubernetes-session" and not kubernetes_cluster_id:
        raise DefinitionError(
            f"The target of task {name!r} is kubernetes-session, and no cluster is named.",
            next_step="Give `kubernetes_cluster_id`.",
        )
    check_options(name, "command_options", command_options, "`application_args`")


def _cluster_options(options: list[str]) -> list[str]:
    """Those of the options that every command needs to find the cluster."""
    return [word for option in _settings(options) for word in option[0]]


def _rest_address(options: list[str]) -> str | None:
    known = {name: value for _, name, value in _settings(options)}
    address = known.get("-m")
    if address is None and "rest.address" in known:
        address = f"{known['rest.address']}:{known.get('rest.port', '8081')}"
    return None if address is None else f"http://{address}"


def _savepoint_directory(options: list[str]) -> str | None:
    # The second is what Flink 1 calls it.
    for name in ("execution.checkpointing.savepoint-dir", "state.savepoints.dir"):
        for option in options:
            if option.startswith(f"-D{name}="):
                return option.partition("=")[2]
    return None


_NAMES = {
    **{"-m": "-m", "--jobmanager": "-m"},
    **{"-yid": "-yid", "--yarnapplicationId": "-yid"},
}


def _settings(options: list[str]) -> Iterator[tuple[list[str], str, str]]:
    """The words, the name and the value of each option that says which cluster is meant."""
    words = iter(options)
    for word in words:
        if word in _NAMES:
            value = next(words, "")
            yield [word, value], _NAMES[word], value
        elif word.startswith(("-Drest.", "-Dyarn.", "-Dkubernetes.", "-Dhigh-availability")):
            name, _, value = word.removeprefix("-D").partition("=")
            yield [word], name, value
