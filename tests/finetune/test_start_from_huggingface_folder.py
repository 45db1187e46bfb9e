"""Fine-tuning starts from a Hugging Face folder; sizes, vocabulary and casing come with it."""

import json

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.loading.pretrained import open_pretrained
from tests.finetune import tiny_tasks
from tests.interop.huggingface_models import NETWORK, stored, write_model


@pytest.mark.slow
def test_fine_tuning(tmp_path):
    made = write_model(tmp_path / "theirs", "discriminator", casing=(False, False))
    (tmp_path / "theirs" / "vocab.txt").unlink()  # tokenizer.json has it too
    tiny_tasks.write_marks(tmp_path, train=8, dev=4)
    results, shown = tiny_tasks.finetune_here(
        tmp_path, init_checkpoint=str(tmp_path / "theirs"), num_train_epochs=1.0,
        learning_rate=1e-12,
    )  # fmt: skip
    assert "not used: " not in shown
    (trial,) = (tmp_path / "models" / "tiny" / "finetuning_models").iterdir()
    model = open_pretrained(str(trial))
    assert model.network == NETWORK.to_dict()
    assert model.tokenizer == {"do_lower_case": False, "strip_accents": False}
    name = "electra.encoder.layer.1.output.dense.weight"
    np.testing.assert_allclose(
        model.arrays["electra/layer_1/output/kernel"].T, made[name], atol=1e-6
    )
    assert stored(tmp_path / "theirs").keys() == made.keys()


def test_a_vocabulary_of_another_size(tmp_path):
    write_model(tmp_path / "theirs", "discriminator")
    with open(tmp_path / "theirs" / "vocab.txt", "a") as file:
        file.write("more\n")
    tiny_tasks.write_marks(tmp_path, train=8, dev=4)
    with pytest.raises(UserError, match="another size") as error:
        tiny_tasks.finetune_here(tmp_path, init_checkpoint=str(tmp_path / "theirs"))
    assert "26 pieces in the file, vocab_size = 25" in error.value.received


def test_a_model_without_heads_can_not_be_evaluated(tmp_path):
    write_model(tmp_path / "theirs", "discriminator")
    tiny_tasks.write_marks(tmp_path, train=8, dev=4)
    definition = tiny_tasks.HPARAMS["tasks"]["marks"] | {"labels": ["bad", "good"]}
    with pytest.raises(UserError, match="can't be evaluated") as error:
        tiny_tasks.finetune_here(
            tmp_path, init_checkpoint=str(tmp_path / "theirs"), do_train=False,
            tasks={"marks": json.loads(json.dumps(definition))},
        )  # fmt: skip
    assert "task_specific/marks/classifier/kernel is missing" in error.value.received
