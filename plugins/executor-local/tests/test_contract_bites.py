"""The contract suite finds out executors that do not keep their promises: each of these breaks one,
and is caught by the test that is named beside it."""

import shutil
from abc import abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import aiflow_core.testing.executor
import aiflow_core.testing.waiting
from aiflow_core.deployment import Deployment, Silence
from aiflow_core.errors import UnavailableError
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.status import TaskStatus
from aiflow_core.specs.executor import Claim, Executor
from aiflow_core.testing.executor import (
    ExecutorContract,
    MemoryExecutor,
    MemoryExecutorContract,
    SharingContract,
)
from aiflow_executor_local.executor import LocalExecutor
from aiflow_executor_local.messages import Renewal


class StartsWithoutAsking(MemoryExecutor):
    def _ask(self, request: AttemptRequest) -> None:
        with self._lock:
            self._waiting.pop(request.key)
            self._begin(request, self._term)
        self._say()


class AsksAfterStarting(StartsWithoutAsking):
    def _ask(self, request: AttemptRequest) -> None:
        super()._ask(request)
        if not self._claim(request.key):
            self.stop(request.key)


class _Wrapping(MemoryExecutor):
    """Asks by way of `ask`, which each of them does in its own way."""

    def start(self, stack: ExitStack, *parts: Any) -> None:
        *others, claim = parts
        super().start(stack, *others, lambda key: self.ask(claim, key))

    @abstractmethod
    def ask(self, claim: Claim, key: AttemptKey) -> bool: ...


class IgnoresTheAnswer(_Wrapping):
    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        claim(key)
        return True


class AsksTwice(_Wrapping):
    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        return claim(key) and claim(key)


class ReportsWhatItDrops(_Wrapping):
    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        is_granted = claim(key)
        if not is_granted:
            self._report(AttemptReport(key=key, status=TaskStatus.FAILED, reason="not ours"))
        return is_granted


class RemembersWhatItDropped(_Wrapping):
    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        is_granted = claim(key)
        if not is_granted:
            self._ended[key] = AttemptReport(key=key, status=TaskStatus.STOPPED)
        return is_granted


class TakesSilenceForConsent(_Wrapping):
    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        try:
            return claim(key)
        except UnavailableError:
            return True


class DropsWhatNobodyKnows(_Wrapping):
    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        try:
            return claim(key)
        except UnavailableError:
            return False


class AsksAgainAtOnce(_Wrapping):
    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        while True:
            try:
                return claim(key)
            except UnavailableError:
                continue


class ForgetsThatItIsAsking(MemoryExecutor):
    def submit(self, request: AttemptRequest) -> None:
        with self._lock:
            self._waiting.pop(request.key, None)
            self._asking.discard(request.key)
        super().submit(request)


class ClaimsWhatItAdopts(MemoryExecutor):
    def adopt(self, request: AttemptRequest) -> None:
        if self._claim(request.key):
            super().adopt(request)


class AsksNoObserver(MemoryExecutor):
    def start(self, stack: ExitStack, deployment: Deployment, *parts: Any) -> None:
        super().start(stack, deployment, *parts)
        self._hooks = Silence()


class ForgetsARefusal(MemoryExecutor):
    def submit(self, request: AttemptRequest) -> None:
        self._ended.pop(request.key, None)
        super().submit(request)


class AsksObserversAboutWhatOthersRun(_Wrapping):
    def start(self, stack: ExitStack, *parts: Any) -> None:
        self._requests: dict[AttemptKey, AttemptRequest] = {}
        super().start(stack, *parts)

    def submit(self, request: AttemptRequest) -> None:
        self._requests[request.key] = request
        super().submit(request)

    def ask(self, claim: Claim, key: AttemptKey) -> bool:
        self._hooks.before_task_start(request=self._requests[key])
        return claim(key)


class AsksObserversAboutWhatItAdopts(MemoryExecutor):
    def adopt(self, request: AttemptRequest) -> None:
        self._hooks.before_task_start(request=request)
        super().adopt(request)


class StartsWhatWasStopped(MemoryExecutor):
    def _end(self, key: AttemptKey, status: TaskStatus, reason: str) -> None:
        request = self._waiting.get(key)
        super()._end(key, status, reason)
        if request:
            self._waiting[key] = request


class NeverKills(MemoryExecutor):
    def renew(self, until: float) -> None:
        pass


class KillsThoughRenewed(MemoryExecutor):
    def renew(self, until: float) -> None:
        if not self._watch:
            super().renew(until)


class KillsWithoutALease(MemoryExecutor):
    def submit(self, request: AttemptRequest) -> None:
        self._until = min(self._until, self._clock.monotonic() + 3600)
        super().submit(request)


class SparesWhatIsOlderThanTheLease(MemoryExecutor):
    def renew(self, until: float) -> None:
        self._older = set(self.running)
        super().renew(until)

    def _end(self, key: AttemptKey, status: TaskStatus, reason: str) -> None:
        if key not in self._older or status is TaskStatus.STOPPED:
            super()._end(key, status, reason)


class KillsLate(MemoryExecutor):
    def _look_at_time(self) -> None:
        if self._clock.monotonic() >= self._until + 5:
            super()._look_at_time()


class StartsAfterTheDeadline(MemoryExecutor):
    def _ask(self, request: AttemptRequest) -> None:
        with self._lock:
            until, self._until = self._until, float("inf")
        super()._ask(request)
        self._until = until


class StartsWhatItClaimedTooLongAgo(MemoryExecutor):
    def _begin(self, request: AttemptRequest, term: int) -> None:
        super()._begin(request, self._term)


class NeverStartsAgain(MemoryExecutor):
    def renew(self, until: float) -> None:
        if self._clock.monotonic() < self._until:
            super().renew(until)


class ForgetsNothing(MemoryExecutor):
    def forget(self, workflow_execution_id: int) -> None:
        pass


class ForgetsWhatRuns(MemoryExecutor):
    def forget(self, workflow_execution_id: int) -> None:
        with self._lock:
            self._running.clear()
        super().forget(workflow_execution_id)


class ForgetsEverything(MemoryExecutor):
    def forget(self, workflow_execution_id: int) -> None:
        self._ended.clear()


class LocalForgetsWhatRuns(LocalExecutor):
    async def _forget(self, execution_id: int) -> None:
        for directory in self._kept(str(execution_id)):
            shutil.rmtree(directory)


class LocalStartsWithoutAsking(LocalExecutor):
    async def _claimed_in(self, attempt: Any) -> int | None:
        return self._term


class LocalAsksInItsLoop(LocalExecutor):
    async def _claimed_in(self, attempt: Any) -> int | None:
        return self._term if self._claim(attempt.key) else None


class LocalKeepsTheTerm(LocalExecutor):
    def _look_at_lease(self, now: float | None = None) -> None:
        super()._look_at_lease(now)
        self._term = 0


class LocalTellsNobody(LocalExecutor):
    def _tell_lease(self) -> None:
        pass


class LocalLooksOnlyWhenRenewed(LocalExecutor):
    async def _guard_lease(self) -> None:
        pass


class LocalForgetsTheEndOfALease(LocalExecutor):
    def _renew(self, now: float, until: float, renewal: Renewal) -> None:
        self._leased_until = float("inf")
        super()._renew(now, until, renewal)


def broken(executor: type[Executor], *tests: str) -> list[Any]:
    return [pytest.param(executor, test, id=f"{executor.__name__}-{test}") for test in tests]


@pytest.mark.parametrize(
    ("executor", "test"),
    [
        *broken(StartsWithoutAsking, "an_attempt_is_claimed_before_it_begins"),
        *broken(AsksAfterStarting, "an_attempt_is_claimed_before_it_begins"),
        *broken(IgnoresTheAnswer, "an_attempt_of_another_server_is_dropped_without_a_word"),
        *broken(AsksTwice, "an_attempt_that_is_submitted_again_is_claimed_once"),
        *broken(ReportsWhatItDrops, "an_attempt_of_another_server_is_dropped_without_a_word"),
        *broken(RemembersWhatItDropped, "an_attempt_that_was_dropped_can_come_back"),
        *broken(TakesSilenceForConsent, "a_claim_that_nobody_can_answer_is_repeated_after_a_pause"),
        *broken(DropsWhatNobodyKnows, "a_claim_that_nobody_can_answer_is_repeated_after_a_pause"),
        *broken(AsksAgainAtOnce, "a_claim_that_nobody_can_answer_is_repeated_after_a_pause"),
        *broken(ForgetsThatItIsAsking, "an_attempt_that_is_submitted_again_is_claimed_once"),
        *broken(ClaimsWhatItAdopts, "an_attempt_that_is_adopted_is_not_claimed"),
        *broken(AsksNoObserver, "an_attempt_that_is_refused_never_starts_and_says_why"),
        *broken(ForgetsARefusal, "a_refusal_holds_when_the_attempt_is_submitted_again"),
        *broken(
            AsksObserversAboutWhatOthersRun, "nobody_is_asked_about_an_attempt_of_another_server"
        ),
        *broken(AsksObserversAboutWhatItAdopts, "nobody_is_asked_about_an_attempt_that_is_adopted"),
        *broken(
            StartsWhatWasStopped,
            "an_attempt_that_is_stopped_while_it_is_claimed_never_begins",
            "an_attempt_that_is_stopped_before_the_next_claim_never_begins",
            "an_attempt_that_is_stopped_while_observers_are_asked_never_begins",
        ),
        *broken(NeverKills, "what_is_not_renewed_is_ended_by_force"),
        *broken(KillsThoughRenewed, "what_is_renewed_in_time_goes_on"),
        *broken(KillsWithoutALease, "without_a_lease_an_attempt_may_run_for_ever"),
        *broken(
            SparesWhatIsOlderThanTheLease,
            "an_attempt_that_ran_before_the_first_lease_has_one_as_well",
        ),
        *broken(
            KillsLate,
            "what_is_not_renewed_is_ended_by_force",
            "a_renewal_that_comes_too_late_saves_nothing_and_lets_others_begin",
        ),
        *broken(StartsAfterTheDeadline, "nothing_begins_without_a_lease_that_there_was"),
        *broken(StartsWhatItClaimedTooLongAgo, "a_claim_that_is_granted_too_late_starts_nothing"),
        *broken(
            NeverStartsAgain, "a_renewal_that_comes_too_late_saves_nothing_and_lets_others_begin"
        ),
        *broken(ForgetsNothing, "what_is_kept_of_an_execution_goes_when_it_is_forgotten"),
        *broken(ForgetsWhatRuns, "nothing_is_forgotten_while_an_attempt_runs"),
        *broken(ForgetsEverything, "other_executions_are_not_forgotten"),
        *broken(LocalForgetsWhatRuns, "nothing_is_forgotten_while_an_attempt_runs"),
        *broken(LocalStartsWithoutAsking, "an_attempt_is_claimed_before_it_begins"),
        *broken(LocalAsksInItsLoop, "an_attempt_is_claimed_before_it_begins"),
        *broken(LocalKeepsTheTerm, "a_claim_that_is_granted_too_late_starts_nothing"),
        *broken(LocalTellsNobody, "what_is_not_renewed_is_ended_by_force"),
        *broken(LocalLooksOnlyWhenRenewed, "what_is_not_renewed_is_ended_by_force"),
        *broken(
            LocalForgetsTheEndOfALease,
            "a_claim_that_is_granted_too_late_starts_nothing",
        ),
    ],
)
def test_a_broken_executor_is_caught(
    executor: type[Executor], test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_processes = issubclass(executor, LocalExecutor)
    base: type[SharingContract] = ExecutorContract if has_processes else MemoryExecutorContract

    class Suite(base):  # type: ignore[valid-type, misc]
        def make(self) -> Executor:
            return executor()

    suite: SharingContract = Suite()
    with suite.on_stage(tmp_path) as stage:
        # Nobody waits long for what will not come; but processes take their time to start.
        patience = 5.0 if has_processes else 1.0
        monkeypatch.setattr(aiflow_core.testing.executor, "DEADLINE", patience)
        monkeypatch.setattr(aiflow_core.testing.waiting, "PATIENCE", patience)
        with pytest.raises((AssertionError, TimeoutError)):
            getattr(suite, f"test_{test}")(stage)
        monkeypatch.undo()
