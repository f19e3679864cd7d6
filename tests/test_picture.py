"""The picture of the main example is drawn from what a run of it says."""

from .picture import draw, read

SAID = """\
Running in /tmp/home
   0.50 s  task predicting #1 RUNNING
[predicting] predicting with model_0040: accuracy 0.756
   0.75 s  event data_prepared = 40 from 1_pre_processing_1
   1.00 s  task training #1 QUEUED
   1.00 s  task training #1 RUNNING
   1.50 s  event model_deployed = /tmp/model_0040.joblib from 1_deploying_1
   2.00 s  task training #1 SUCCESS
   2.50 s  task predicting #1 SUCCESS
"""


def test_a_run_is_read_from_the_begin_of_its_first_task() -> None:
    run = read(SAID)

    assert run.bars == [("training", 0.5, 1.5), ("predicting", 0.0, 2.0)]
    assert run.events == [
        (0.25, "data_prepared", "pre_processing"),
        (1.0, "model_deployed", "deploying"),
    ]
    assert run.accuracies == [(1.0, 0.756)]


def test_each_task_has_a_lane_of_its_own() -> None:
    above, below = draw(read(SAID)).axes

    assert [label.get_text() for label in above.get_yticklabels()][:3] == [
        *("predicting", "pre_processing", "training")
    ]
    middles = {bar.get_y() + bar.get_height() / 2 for bar in above.patches if bar.get_width()}
    assert middles == {0, 2}
    assert below.get_ylabel() == "accuracy of the\ndeployed model"
