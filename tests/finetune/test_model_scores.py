"""Which files of a folder of results count."""

import json
import math

from finetune.results import model_scores


def test_files_that_are_no_results_of_fine_tuning_have_no_scores(tmp_path):
    whole = {"trials": [], "evaluations": [], "main_metrics": {"rte": "accuracy"}}
    figures = {"median": 1.0, "std": None, "trials": 1}
    broken = [
        {},
        {"summary": []},
        {"summary": {"rte": []}},
        {"summary": {"rte": {"accuracy": {"median": 1.0}}}},
        {"summary": {"rte": {"accuracy": figures}}, "main_metrics": None},
        {"summary": {"rte": {"accuracy": figures}}, "main_metrics": ["rte"]},
    ]
    for number, part in enumerate(broken):
        (tmp_path / f"a{number}_results.json").write_text(json.dumps(whole | part))
    assert model_scores(str(tmp_path)) == []
    part = {"summary": {"rte": {"accuracy": figures}}}
    (tmp_path / "b_results.json").write_text(json.dumps(whole | part))
    (score,) = model_scores(str(tmp_path))
    assert (score.task, score.median, score.trials) == ("rte", 1.0, 1) and math.isnan(score.std)
