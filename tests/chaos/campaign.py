"""A campaign: load on a deployment, trouble, quiet, and the verdict of the oracle."""

import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiflow_core.model.serialization import encode

from .deployment import Deployment, deployed
from .figures import counts
from .load import Load
from .oracle import Finding, judge

# Seconds until all that was begun must have ended; an engine that is stuck never gets there.
BOUND = 90.0


@dataclass
class Report:
    """What came of a campaign.

    Attributes:
        figures: what was done and measured, by name.
        findings: of the oracle.
    """

    title: str
    figures: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [text for finding in self.findings for text in finding.violations]

    def text(self) -> str:
        """A table of the figures, one of the findings, and the first violations in words."""
        width = max(map(len, [*self.figures, *(f.check for f in self.findings)]), default=0)
        lines = [self.title, ""]
        lines += [f"  {name:<{width}}  {value}" for name, value in self.figures.items()]
        if self.findings:
            lines += ["", f"  {'check':<{width}}  {'checked':>9}  violations"]
        for finding in self.findings:
            count = len(finding.violations)
            lines.append(f"  {finding.check:<{width}}  {finding.checked:>9,}  {count:>10}")
        for finding in self.findings:
            for violation in finding.violations[:5]:
                lines.append(f"VIOLATION ({finding.check}): {violation}")
        return "\n".join(lines)


class Trouble:
    """What is done to a deployment, noted with its moment.

    Attributes:
        choices: the random choices of the campaign, which follow from its seed.
    """

    def __init__(self, deployment: Deployment, load: Load, seed: int) -> None:
        self.deployment = deployment
        self.load = load
        self.choices = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._began = time.monotonic()

    def note(self, what: str, **facts: Any) -> None:
        """Count it, and write it down."""
        self.done[what] += 1
        line = {"at": round(time.monotonic() - self._began, 3), "what": what, **facts}
        with (self.deployment.root / "trouble").open("a") as file:
            file.write(f"{json.dumps(line)}\n")

    def expect_servers(self) -> None:
        """Note it when a server has ended that nobody has ended."""
        for name, server in self.deployment.servers.items():
            if server.exit_code is not None:
                self.load.surprise(
                    f"{name} has ended by itself with {server.exit_code}: {server.last_words()}"
                )

    def expect_one_leader_at_a_time(self) -> None:
        """Note it when two servers have scheduled in one epoch."""
        leaders = Counter(self.deployment.epochs())
        for epoch, count in leaders.items():
            if count > 1:
                self.load.surprise(f"epoch {epoch} had {count} leaders")


def campaign(
    title: str, seed: int, trouble: Callable[[Trouble], dict[str, Any]], **settings: Any
) -> Report:
    """Do `trouble` to a deployment under load, and judge what came of it.

    `trouble` returns the figures that it has measured. `settings` are those of `deployed`. When
    something is wrong, the directory with all that was noted is kept.
    """
    report = Report(f"{title}, seed {seed}")
    with (
        evidence(report) as root,
        deployed(root, **settings) as deployment,
        closing(Load(deployment, seed)) as load,
    ):
        deployment.start()
        deployment.upload()
        with load.running():
            doer = Trouble(deployment, load, seed)
            began = time.monotonic()
            with _failures_noted(load):
                report.figures |= trouble(doer)
            report.figures["trouble"] = counts(doer.done)
            report.figures["seconds of trouble"] = f"{time.monotonic() - began:.0f}"
            with _failures_noted(load):
                deployment.start()
                report.figures["seconds until all was quiet"] = f"{load.settle(BOUND):.1f}"
            doer.expect_servers()
            doer.expect_one_leader_at_a_time()
        stopping = time.monotonic()
        _stop(deployment, load)
        report.figures["seconds until all had stopped"] = f"{time.monotonic() - stopping:.1f}"
        history = load.history()
        report.figures |= {
            "events in the log": f"{len(history.log):,}",
            "executions": counts(Counter(row.status for row in history.executions)),
            "attempts": f"{sum(row.attempt for row in history.tasks):,}",
        }
        report.findings = judge(history)
        if report.violations:  # the databases may be gone with their server
            (root / "history.json").write_bytes(encode(history))
    return report


@contextmanager
def _failures_noted(load: Load) -> Iterator[None]:
    """What a server has to do in the block and does not is noted, and the run goes on."""
    try:
        yield
    except AssertionError:
        load.surprise(traceback.format_exc())


def _stop(deployment: Deployment, load: Load) -> None:
    """Stop the servers as a user does, which has to work after all that as well."""
    for name, server in reversed(deployment.servers.items()):
        if server.runs and (code := server.stop()) != 0:
            load.surprise(f"{name} was told to stop and ended with {code}")


@contextmanager
def evidence(report: Report) -> Iterator[Path]:
    """A directory for a run, which is kept when the run finds something wrong, or fails."""
    root = Path(tempfile.mkdtemp(prefix="aiflow-chaos-"))
    try:
        yield root
    except BaseException:
        print(f"What was noted until then is in {root}.", file=sys.stderr)
        raise
    if report.violations:
        report.figures["evidence"] = str(root)
    else:
        shutil.rmtree(root)
