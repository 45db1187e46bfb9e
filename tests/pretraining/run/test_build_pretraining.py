"""From hparams to networks and objective."""

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.modeling.electra import Generator, TwoTowerGenerator, UniformGenerator
from electra_tf2.modeling.embeddings import DisentangledEmbeddings
from electra_tf2.pretraining.objective import MaskedLM
from electra_tf2.pretraining.replaced_token_detection import Options
from electra_tf2.pretraining.run.build_pretraining import build_pretraining
from electra_tf2.text.vocabulary import load_vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
HPARAMS = {
    "model_hparam_overrides": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
    },
    "vocab_size": len(PIECES),
    "max_seq_length": 40,
    "generator_hidden_size": 0.5,
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n")
    return load_vocabulary(str(path))


def build(vocabulary, **hparams):
    config = PretrainingConfig("model", "data", **HPARAMS, **hparams)
    return build_pretraining(config, config.network(), vocabulary)


def test_defaults(vocabulary):
    objective, pair = build(vocabulary)
    assert objective.options == Options(gen_weight=1.0, disc_weight=50.0, temperature=1.0)
    assert isinstance(pair.generator, Generator)
    masking = objective.masking
    assert (masking.mask_id, set(masking.never_masked)) == (4, {2, 3, 4})
    assert (masking.mask_prob, masking.max_predictions) == (0.15, int(0.155 * 40))
    assert not masking.with_replacement
    assert not pair.encoder.recompute


@pytest.mark.parametrize(
    "hparams, options",
    [
        ({"disallow_correct": True}, {"disallow_correct": True}),
        ({"temperature": 2.0}, {"temperature": 2.0}),
        ({"gen_weight": 0.5, "disc_weight": 20.0}, {"gen_weight": 0.5, "disc_weight": 20.0}),
        ({"two_tower_generator": True}, {"all_candidates": True}),
        ({"electric_objective": True}, {"all_candidates": True, "electric": True}),
        ({"uniform_generator": True}, {}),
    ],
)
def test_switches(vocabulary, hparams, options):
    objective, pair = build(vocabulary, **hparams)
    assert objective.options == Options(**options)
    kind = Generator
    if "all_candidates" in options:
        kind = TwoTowerGenerator
    elif "uniform_generator" in hparams:
        kind = UniformGenerator
    assert type(pair.generator) is kind


def test_masking_and_memory(vocabulary):
    objective, pair = build(vocabulary, mask_prob=0.25, mask_with_replacement=True, recompute=True)
    assert objective.masking.mask_prob == 0.25
    assert objective.masking.max_predictions == int(0.255 * 40)
    assert objective.masking.with_replacement
    assert pair.encoder.recompute and pair.generator.encoder.recompute


def test_words_and_spans(vocabulary, tmp_path):
    with pytest.raises(UserError, match="each token is a word") as error:
        build(vocabulary, masking="whole_word")
    assert error.value.where == "hparam masking" and "none of the 8 pieces" in error.value.received
    assert build(vocabulary, masking="span")[0].masking.unit == "span"
    (tmp_path / "vocab.txt").write_text("\n".join([*PIECES[:6], "##b", "##c"]) + "\n")
    objective, _ = build(load_vocabulary(str(tmp_path / "vocab.txt")), masking="whole_word")
    assert objective.masking.unit == "whole_word" and objective.masking.continuations == (6, 7)


def test_embeddings_that_the_discriminator_adds_to(vocabulary):
    objective, pair = build(vocabulary, embedding_sharing="gdes")
    assert isinstance(pair.encoder.embeddings, DisentangledEmbeddings)
    assert "electra/embeddings/word_embeddings_delta" in objective.named_variables()


def test_masked_lm(vocabulary):
    objective, pair = build(vocabulary, electra_objective=False, gen_weight=2.0)
    assert isinstance(objective, MaskedLM)
    assert objective.loss_weights == {"generator_loss": 2.0}
    assert pair.discriminator is None


def test_precision(vocabulary):
    config = PretrainingConfig("model", "data", **HPARAMS)
    _, pair = build_pretraining(config, config.network(), vocabulary, precision="bfloat16")
    assert pair.encoder.compute_dtype == pair.generator.compute_dtype == "bfloat16"
    assert {v.dtype for v in pair.encoder.variables} == {"float32"}
