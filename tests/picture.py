"""Draws the run of the main example for the README: `python -m tests.picture`.

The example is really run, with `aiflow run`, and what is drawn is what that has said.
"""

import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .servers import PROGRAMS

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "online_ml" / "workflow.py"
PICTURE = ROOT / "docs" / "images" / "online_ml_run.png"

TASKS = ["predicting", "pre_processing", "training", "validating", "deploying", "report"]
STREAMING = TASKS[:2]
# Which task acts on an event: it starts, or has a listener.
HEARD_BY = {
    "predicting_ready": "pre_processing",
    "data_prepared": "training",
    "model_validated": "deploying",
    "model_rejected": "pre_processing",
    "model_deployed": "predicting",
    "data_finished": "predicting",
}
# Each event has its name once, by default where it is first: there others would stand in the way.
NAMED_AT = {"model_deployed": 2, "model_validated": 3}
BLUE, ORANGE, GREY = "#3f51b5", "#ef8a17", "#666666"
SHORTEST = 0.05  # seconds that can still be seen
HALF = 0.25  # of the height of a bar


@dataclass
class Run:
    """What happened, in seconds.

    Attributes:
        bars: task, from, to; one for each execution of a task.
        events: moment, key, task that sent it.
        accuracies: moment, accuracy on digits that were never seen; one for each deployed model.
    """

    bars: list[tuple[str, float, float]] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    accuracies: list[tuple[float, float]] = field(default_factory=list)


def run() -> Run:
    """A run of the example."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [str(PROGRAMS / "aiflow"), "run", str(EXAMPLE)],
            env={**os.environ, "AIFLOW_HOME": home},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
    return read(done.stdout)


def read(said: str) -> Run:
    """What `aiflow run` has said of a run of the example, its progress with it."""
    found = Run()
    begun: dict[tuple[str, str], float] = {}
    deployed: list[float] = []
    accuracies: list[float] = []
    for line in said.splitlines():
        if status := re.match(r" *([\d.]+) s  task (\w+) #(\d+) (\w+)", line):
            moment, task = float(status[1]), (status[2], status[3])
            if status[4] == "RUNNING":
                begun[task] = moment
            elif status[4] == "SUCCESS":
                found.bars.append((task[0], begun.get(task, moment), moment))
        elif event := re.match(r" *([\d.]+) s  event (\w+)\b.* from \d+_(\w+)_\d+$", line):
            found.events.append((float(event[1]), event[2], event[3]))
            if event[2] == "model_deployed":
                deployed.append(float(event[1]))
        elif accuracy := re.match(r"\[predicting\] predicting with .* accuracy ([\d.]+)", line):
            accuracies.append(float(accuracy[1]))
    found.accuracies = list(zip(deployed, accuracies, strict=True))
    return _from_its_begin(found)


def _from_its_begin(run: Run) -> Run:
    """Without the time that the programs take to come up."""
    first = min(begin for _, begin, _ in run.bars)
    return Run(
        bars=[(task, begin - first, end - first) for task, begin, end in run.bars],
        events=[(moment - first, key, sender) for moment, key, sender in run.events],
        accuracies=[(moment - first, accuracy) for moment, accuracy in run.accuracies],
    )


def draw(found: Run) -> Figure:
    """The tasks over time, the events between them, and below what came of it."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.3])
    _draw_tasks(above, found)
    _draw_accuracy(below, found)
    return figure


def _draw_tasks(axes: Axes, found: Run) -> None:
    for task, begin, end in found.bars:
        colour = BLUE if task in STREAMING else ORANGE
        lane, width = TASKS.index(task), max(end - begin, SHORTEST)
        axes.barh(lane, width, left=begin, height=2 * HALF, color=colour, zorder=2)
    seen: Counter[str] = Counter()
    for moment, key, sender in found.events:
        from_, to = TASKS.index(sender), TASKS.index(HEARD_BY[key])
        down = 1 if to > from_ else -1
        axes.annotate(
            "",
            (moment, to - down * HALF),
            (moment, from_ + down * HALF),
            arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 1, "shrinkA": 0, "shrinkB": 0},
            zorder=3,
        )
        seen[key] += 1
        if seen[key] == NAMED_AT.get(key, 1):
            place = (moment + 0.05, to - down * 0.5)
            under = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text(*place, key, va="center", fontsize=9, color=GREY, bbox=under, zorder=4)
    axes.set_ylim(len(TASKS) - 0.5, -0.5)
    axes.set_yticks(range(len(TASKS)), TASKS)
    axes.barh(0, 0, color=BLUE, label="streaming task")
    axes.barh(0, 0, color=ORANGE, label="batch task")
    axes.plot([], [], color=GREY, marker=">", lw=1, label="event")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.tick_params(axis="y", length=0)


def _draw_accuracy(axes: Axes, found: Run) -> None:
    moments = [moment for moment, _ in found.accuracies]
    accuracies = [accuracy for _, accuracy in found.accuracies]
    end = max(end for _, _, end in found.bars)
    axes.step([*moments, end], [*accuracies, accuracies[-1]], where="post", color=BLUE, lw=2)
    for moment, accuracy in found.accuracies:
        axes.annotate(f"{accuracy:.3f}", (moment, accuracy), (5, -12), textcoords="offset points")
    axes.margins(y=0.3)
    axes.set_ylabel("accuracy of the\ndeployed model")
    axes.set_xlabel("seconds since the first task began")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    draw(run()).savefig(PICTURE, dpi=130)
