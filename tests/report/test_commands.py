"""The fewest hparams from which the stored ones follow."""

from configure_finetuning import FinetuningConfig
from electra_tf2.report.commands import Place, given_hparams


def test_a_default_that_has_to_be_stated_is_kept():
    for name in ("mine", "chunk"):  # the second is the default
        given = {"task_names": [name], "tasks": {"mine": {"kind": "qa"}}}
        stored = FinetuningConfig("m", "d", **given).to_dict()
        assert given_hparams(FinetuningConfig, Place("d", "m"), stored) == given
