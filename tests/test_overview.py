"""The list of all runs, as the command line and the Train page show it."""

from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import overview
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import create_run


def test_what_trains_comes_first_then_what_waits_in_its_order_then_the_newest(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path))
    config = TrainingConfig(ClassifierConfig(input_size=(64, 64)))
    made = {title: create_run(config, title) for title in ("1 trains", "2 done", "3 failed")}
    made |= {title: create_run(config, title) for title in ("4 waits last", "5 waits first")}
    made["1 trains"].claim()
    made["2 done"].update(state="finished")
    made["3 failed"].update(state="failed", error="The disk is full.")
    made["4 waits last"].update(state="queued", rank=7)
    made["5 waits first"].update(state="queued", rank=2)
    rows = overview.rows()
    assert [row.title for row in rows] == [
        "1 trains",
        "5 waits first",
        "4 waits last",
        "3 failed",
        "2 done",
    ]
    assert [row.busy for row in rows] == [True, True, True, False, False]
    assert rows[3].error == "The disk is full." and rows[1].rank == 2
