"""A model is trained, validated, deployed and used while its training data still arrive.

    predicting ──predicting_ready──▶ pre_processing ──data_prepared──▶ training
        ▲                                   ▲                              │ success
        │                                   │ model_rejected               ▼
        │                                   ├───────────────────────── validating
        │                                   │ model_deployed               │ model_validated
        └───────────────────────────────────┴───────────────────────── deploying

`pre_processing` and `predicting` are streaming tasks: they live as long as there are data. The
others are batch tasks, started anew for each batch of data. `report` follows `predicting`.
"""

import csv
import shutil
import time
from pathlib import Path
from queue import Empty, SimpleQueue

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from aiflow_core import Event, TaskAction, Workflow
from aiflow_notification_server.client import AIFlowNotificationClient, ListenerProcessor
from aiflow_operator_python.operator import PythonOperator

BATCHES = [40, 120, 240, 280, 680]  # how many samples have arrived after each batch
INTERVAL = 0.5  # seconds between the answer to a batch and the next one
LONGEST_WAIT = 15.0  # seconds after which the next batch comes even without an answer

# Each execution has a copy of this file of its own; what its tasks share lies beside it.
HERE = Path(__file__).parent
ARRIVED = HERE / "arrived.npz"
TRAINED = HERE / "trained"
DEPLOYED = HERE / "deployed"
RESULTS = HERE / "accuracy.csv"
CHART = HERE / "accuracy.png"


def digits(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 64), scaled to 0..1, and labels (n,) of one part of scikit-learn's digits.

    The parts, "train" (797), "validate" (500) and "predict" (500), do not overlap and are the
    same in every process.
    """
    x, y = load_digits(return_X_y=True)
    x = x / 16
    x_rest, x_predict, y_rest, y_predict = train_test_split(
        x, y, test_size=500, random_state=0, stratify=y
    )
    x_train, x_validate, y_train, y_validate = train_test_split(
        x_rest, y_rest, test_size=500, random_state=0, stratify=y_rest
    )
    return {
        "train": (x_train, y_train),
        "validate": (x_validate, y_validate),
        "predict": (x_predict, y_predict),
    }[part]


def newest(directory: Path) -> Path | None:
    """The model that was trained on the most samples: its name says how many."""
    return max(directory.glob("model_*.joblib"), default=None)


class Inbox(ListenerProcessor):
    """Keeps the events that a listener hands over until the task asks for them."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()

    def process(self, events: list[Event]) -> None:
        for event in events:
            self._events.put(event)

    def take(self, timeout: float | None = None) -> Event | None:
        """The next event; None when none comes within `timeout` seconds."""
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            return None


def pre_process() -> None:
    """Streaming: let the data arrive in batches, each after the answer to the one before."""
    TRAINED.mkdir()
    DEPLOYED.mkdir()
    x, y = digits("train")
    inbox = Inbox()
    with AIFlowNotificationClient() as client:
        client.register_listener(inbox, ["model_deployed", "model_rejected"])
        for count in BATCHES:
            np.savez(ARRIVED, x=x[:count], y=y[:count])
            print(f"{count} samples have arrived")
            client.send_event("data_prepared", str(count))
            # A training that is asked for while one runs would be left out.
            inbox.take(timeout=LONGEST_WAIT)
            time.sleep(INTERVAL)
        client.send_event("data_finished")


def train() -> None:
    """Batch: fit a model to all that has arrived."""
    with np.load(ARRIVED) as arrived:
        x, y = arrived["x"], arrived["y"]
    model = LogisticRegression(max_iter=200).fit(x, y)
    joblib.dump(model, TRAINED / f"model_{len(y):04}.joblib")


def validate() -> None:
    """Batch: let the newest model pass when it is better than the deployed one."""
    candidate, deployed = newest(TRAINED), newest(DEPLOYED)
    assert candidate is not None, "validating starts after training"
    x, y = digits("validate")
    accuracy = joblib.load(candidate).score(x, y)
    best = joblib.load(deployed).score(x, y) if deployed else 0.0
    print(f"{candidate.stem}: accuracy {accuracy:.3f}, deployed so far {best:.3f}")
    with AIFlowNotificationClient() as client:
        if accuracy > best:
            client.send_event("model_validated", f"{accuracy:.4f}")
        else:
            client.send_event("model_rejected", f"{accuracy:.4f}")


def deploy() -> None:
    """Batch: put the validated model where predicting finds it."""
    validated = newest(TRAINED)
    assert validated is not None, "deploying starts after a model was validated"
    model = shutil.copy(validated, DEPLOYED)
    with AIFlowNotificationClient() as client:
        client.send_event("model_deployed", str(model))


def predict() -> None:
    """Streaming: take up each deployed model, and measure it on data it has never seen."""
    x, y = digits("predict")
    inbox = Inbox()
    with AIFlowNotificationClient() as client, RESULTS.open("w", newline="") as file:
        client.register_listener(inbox, ["model_deployed", "data_finished"])
        # Only now does the stream begin, so that no model can be missed.
        client.send_event("predicting_ready")
        results = csv.writer(file)
        while (event := inbox.take()) is not None and event.key == "model_deployed":
            model = Path(str(event.value))
            accuracy = joblib.load(model).score(x, y)
            print(f"predicting with {model.stem}: accuracy {accuracy:.3f}")
            results.writerow([model.stem, f"{accuracy:.4f}"])


def report() -> None:
    """Batch: print and draw the accuracy of each deployed model."""
    from matplotlib.figure import Figure  # the tasks that draw nothing need not wait for it

    with RESULTS.open(newline="") as file:
        rows = [(name, float(accuracy)) for name, accuracy in csv.reader(file)]
    print("deployed model  accuracy")
    for name, accuracy in rows:
        print(f"{name:<14}  {accuracy:.3f}")

    samples = [int(name.removeprefix("model_")) for name, _ in rows]
    accuracies = [accuracy for _, accuracy in rows]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot(xticks=samples)
    axes.plot(samples, accuracies, marker="o")
    for point in zip(samples, accuracies, strict=True):
        axes.annotate(f"{point[1]:.3f}", point, (6, -12), textcoords="offset points")
    axes.margins(0.08, 0.2)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(
        title="Each deployed model, measured on unseen digits",
        xlabel="samples the model was trained on",
        ylabel="accuracy",
    )
    figure.savefig(CHART, dpi=150)
    print(f"chart: {CHART}")


with Workflow(name="online_ml") as workflow:
    predicting = PythonOperator(name="predicting", python_callable=predict)
    pre_processing = PythonOperator(name="pre_processing", python_callable=pre_process)
    training = PythonOperator(name="training", python_callable=train)
    validating = PythonOperator(name="validating", python_callable=validate)
    deploying = PythonOperator(name="deploying", python_callable=deploy)
    reporting = PythonOperator(name="report", python_callable=report)

    pre_processing.action_on_event_received(TaskAction.START, event_key="predicting_ready")
    training.action_on_event_received(TaskAction.START, event_key="data_prepared")
    validating.start_after(training)
    deploying.action_on_event_received(TaskAction.START, event_key="model_validated")
    reporting.start_after(predicting)
