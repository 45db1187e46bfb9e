"""The presets: published recipes of pre-training and fine-tuning, each value with its source.

Every preset states all hparams that make the recipe; those that only say where and how it runs
(devices, logs, paths), and of fine-tuning those that follow from the task, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Sourced(NamedTuple):
    """A value and where it is published."""

    value: Any
    source: str


class Preset(NamedTuple):
    """A recipe.

    Attributes:
        about: whose, and what it trains.
        values: hparam -> value and source. A path may begin with "{data_dir}".
        differences: what of the published recipe the hparams can't say.
    """

    about: str
    values: Mapping[str, Sourced]
    differences: tuple[str, ...] = ()


# The ELECTRA paper is arXiv:2003.10555; the program is github.com/google-research/electra.
_TABLE_6 = "paper, table 6"
_TABLE_7 = "paper, table 7"
_SECTION_3_3 = "paper, section 3.3"
_APPENDIX_A = "paper, appendix A"
_PROGRAM = "configure_pretraining.py"
_PROGRAM_LARGER = "configure_pretraining.py, comment on larger models"
_OPTIMIZATION = "model/optimization.py"
_MODELING = "model/modeling.py"
_README = "official README"
_ISSUE_39 = "google-research/electra, issue 39"
_AS_SMALL = "not published; that of electra_small"
# github.com/NVIDIA/DeepLearningExamples, TensorFlow2/LanguageModeling/ELECTRA.
_NV_SCRIPT = "NVIDIA, scripts/run_pretraining.sh"
_NV_CONFIG = "NVIDIA, scripts/configs/pretrain_config.sh (dgxa100_8gpu_amp)"
_NV_PROGRAM = "NVIDIA, run_pretraining.py"
_NV_OPTIMIZATION = "NVIDIA, optimization.py"
# github.com/shoarora/lmtuners and its model huggingface.co/shoarora/electra-small-owt.
_LMT_CARD = "model card shoarora/electra-small-owt"
_LMT_SCRIPT = "lmtuners, experiments/disc_lm_small/train_electra_small.py"
_LMT_MODULE = "lmtuners, lightning_modules/discriminative_lm.py"
_LMT_README = "lmtuners, experiments/disc_lm_small/README.md"
_LMT_LAMB = "pytorch-lamb, which lmtuners uses"
_SEARCH = "docs/results.md, a recipe for minutes"
_MINI = "docs/results.md, a recipe for an hour"


def _from(source: str, **values: Any) -> dict[str, Sourced]:
    return {name: Sourced(value, source) for name, value in values.items()}


_SCHEDULE = (
    "There the learning rate decays over the steps after the warm-up; here warm-up and decay are "
    "factors, as in the official program."
)

# What all official models have in common.
_OFFICIAL = {
    **_from(
        _PROGRAM,
        electra_objective=True,
        electric_objective=False,
        gen_weight=1.0,
        uniform_generator=False,
        two_tower_generator=False,
        untied_generator=True,
        untied_generator_embeddings=False,
        generator_layers=1.0,
        disallow_correct=False,
        temperature=1.0,
    ),
    **_from(_MODELING, encoder="bert", model_hparam_overrides={}),
    **_from(_APPENDIX_A, disc_weight=50.0),
    **_from(_README, vocab_size=30522, do_lower_case=True),
    **_from(
        _TABLE_6,
        lr_decay_power=1.0,
        num_warmup_steps=10000,
        weight_decay_rate=0.01,
        adam_beta_1=0.9,
        adam_beta_2=0.999,
        adam_epsilon=1e-6,
    ),
    **_from(
        _OPTIMIZATION,
        optimizer="adamw",
        end_learning_rate=0.0,
        adam_bias_correction=False,
        max_grad_norm=1.0,
    ),
}
_SMALL = {
    **_OFFICIAL,
    **_from(
        _TABLE_6,
        model_size="small",
        embedding_size=128,
        generator_hidden_size=0.25,
        mask_prob=0.15,
        learning_rate=5e-4,
        train_batch_size=128,
        num_train_steps=1000000,
    ),
    **_from(_SECTION_3_3, max_seq_length=128),
}
_LARGER = {
    **_OFFICIAL,
    **_from(_TABLE_6, embedding_size=None, learning_rate=2e-4),  # as wide as the hidden states
    **_from(_PROGRAM_LARGER, max_seq_length=512),
}
_BASE = {
    **_LARGER,
    **_from(
        _TABLE_6,
        model_size="base",
        generator_hidden_size=1 / 3,
        mask_prob=0.15,
        train_batch_size=256,
        num_train_steps=766000,
    ),
}

PRESETS: dict[str, Preset] = {
    "electra_small": Preset("ELECTRA-Small of the paper", _SMALL),
    "electra_small_plus": Preset(
        "ELECTRA-Small++, the small model that was released: longer examples, four times the "
        "steps, a generator of full size",
        {
            **_SMALL,
            **_from(_README, num_train_steps=4000000),
            **_from(_ISSUE_39, generator_hidden_size=1.0),
            **_from("official README: its scores on SQuAD need it", max_seq_length=512),
            **_from(_AS_SMALL, learning_rate=5e-4, train_batch_size=128, num_warmup_steps=10000),
        },
    ),
    "electra_base": Preset("ELECTRA-Base of the paper", _BASE),
    "electra_large": Preset(
        "ELECTRA-Large of the paper, 400k steps (for ELECTRA-1.75M set num_train_steps to 1750000)",
        {
            **_LARGER,
            **_from(
                _TABLE_6,
                model_size="large",
                generator_hidden_size=0.25,
                mask_prob=0.25,
                train_batch_size=2048,
                num_train_steps=400000,
            ),
        },
    ),
    "electra_small_owt": Preset(
        "ELECTRA-Small-OWT of the official quickstart, for OpenWebText: the program's defaults",
        {
            **_SMALL,
            **_from(
                _PROGRAM,
                model_size="small",
                embedding_size=128,
                generator_hidden_size=0.25,
                mask_prob=0.15,
                disc_weight=50.0,
                learning_rate=5e-4,
                lr_decay_power=1.0,
                num_warmup_steps=10000,
                weight_decay_rate=0.01,
                train_batch_size=128,
                max_seq_length=128,
            ),
            **_from(_OPTIMIZATION, adam_beta_1=0.9, adam_beta_2=0.999, adam_epsilon=1e-6),
            **_from(_README, num_train_steps=1000000),
        },
    ),
    "electra_tiny": Preset(
        "A model of minutes on two processor cores, that of this program's quickstart",
        {
            **_SMALL,
            **_from(
                _SEARCH,
                model_hparam_overrides={
                    "hidden_size": 128,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 2,
                    "hidden_dropout_prob": 0.0,
                    "attention_probs_dropout_prob": 0.0,
                    "initializer_range": 0.06,
                },
                vocab_size=2048,
                generator_hidden_size=0.125,
                generator_layers=0.34,
                learning_rate=1e-3,
                num_warmup_steps=1000,
                num_train_steps=1750,
                weight_decay_rate=0.0,
                train_batch_size=64,
                max_seq_length=64,
            ),
        },
    ),
    "electra_mini": Preset(
        "A model of an hour on a laptop, with the modern encoder and a vocabulary of 4,096 pieces",
        {
            **_SMALL,
            **_from(
                _MINI,
                encoder="modern",
                embedding_size=192,
                model_hparam_overrides={
                    "hidden_size": 192,
                    "num_hidden_layers": 4,
                    "num_attention_heads": 3,
                    "hidden_dropout_prob": 0.0,
                    "attention_probs_dropout_prob": 0.0,
                    "initializer_range": 0.06,
                },
                vocab_size=4096,
                generator_hidden_size=1 / 6,
                generator_layers=0.25,
                learning_rate=1e-3,
                num_warmup_steps=1000,
                num_train_steps=10000,
                weight_decay_rate=0.0,
                train_batch_size=64,
                max_seq_length=64,
            ),
        },
    ),
    "electra_large_batch_lamb": Preset(
        "NVIDIA's ELECTRA-Base in two phases of large batches with LAMB, for eight GPUs of 40 GB",
        {
            **_BASE,
            **_from(
                _NV_SCRIPT,
                disc_weight=50.0,
                generator_hidden_size=1 / 3,
                max_seq_length=128,
                optimizer="lamb",
                adam_beta_1=0.878,
                adam_beta_2=0.974,
                lr_decay_power=0.5,
            ),
            **_from(
                _NV_PROGRAM,
                model_hparam_overrides={},
                electra_objective=True,
                gen_weight=1.0,
                uniform_generator=False,
                untied_generator_embeddings=False,
                generator_layers=1.0,
                disallow_correct=False,
                temperature=1.0,
                mask_prob=0.15,
                vocab_size=30522,
                do_lower_case=True,
                embedding_size=None,
                end_learning_rate=0.0,
                weight_decay_rate=0.01,
                max_grad_norm=1.0,
            ),
            **_from(_NV_OPTIMIZATION, adam_epsilon=1e-6, adam_bias_correction=True),
            # Those of the first phase; `phases` beats them.
            **_from(
                _NV_CONFIG,
                model_size="base",
                learning_rate=6e-3,
                num_warmup_steps=2000,
                num_train_steps=10000,
                train_batch_size=67584,
                phases=[
                    {
                        "num_train_steps": 10000,
                        "max_seq_length": 128,
                        "train_batch_size": 67584,
                        "gradient_accumulation_steps": 48,
                        "learning_rate": 6e-3,
                        "num_warmup_steps": 2000,
                        "pretrain_tfrecords": "{data_dir}/pretrain_tfrecords_128/"
                        "pretrain_data.tfrecord*",
                    },
                    {
                        "num_train_steps": 933,
                        "max_seq_length": 512,
                        "train_batch_size": 27648,
                        "gradient_accumulation_steps": 144,
                        "learning_rate": 4e-3,
                        "num_warmup_steps": 200,
                        "pretrain_tfrecords": "{data_dir}/pretrain_tfrecords_512/"
                        "pretrain_data.tfrecord*",
                    },
                ],
            ),
        },
        differences=(
            _SCHEDULE,
            "There 6 rows are added to the vocabulary's table, to make them a multiple of 8.",
        ),
    ),
    "lmtuners_small_owt": Preset(
        "lmtuners' ELECTRA-small-OWT: BERT for both networks, so no embedding projection",
        {
            **_SMALL,
            **_from(
                _LMT_CARD,
                train_batch_size=512,
                num_train_steps=500000,
                num_warmup_steps=40000,
                learning_rate=2e-3,
                embedding_size=None,
            ),
            **_from(
                _LMT_SCRIPT,
                model_size="small",
                model_hparam_overrides={"max_position_embeddings": 128},
                max_seq_length=128,
                generator_hidden_size=1.0,
                generator_layers=0.25,
                mask_prob=0.15,
                weight_decay_rate=0.01,
                adam_epsilon=1e-6,
                encoder="bert",
                untied_generator=True,
                untied_generator_embeddings=False,
            ),
            **_from(
                _LMT_MODULE,
                optimizer="lamb",
                electra_objective=True,
                gen_weight=1.0,
                disc_weight=50.0,
                disallow_correct=False,
                temperature=1.0,
                lr_decay_power=1.0,
                end_learning_rate=0.0,
            ),
            **_from(_LMT_LAMB, adam_beta_1=0.9, adam_beta_2=0.999, adam_bias_correction=False),
            **_from(_LMT_README, vocab_size=30522, do_lower_case=True),
            **_from("not clipped there; the default", max_grad_norm=1.0),
        },
        differences=(
            "There the generator has one attention head and a feed-forward width of 256; here 4 "
            "and 1024, by the official rule.",
            "There all chosen tokens become [MASK]; here 85 % of them.",
            "There the gradient is not clipped, LAMB scales the steps of LayerNorm and biases too, "
            "and a norm of weights over 10 counts as 10.",
            _SCHEDULE,
        ),
    ),
}


def _finetuning(size: str, learning_rate: float, layerwise_lr_decay: float) -> Preset:
    values = _from(
        _TABLE_7,
        model_size=size,
        learning_rate=learning_rate,
        layerwise_lr_decay=layerwise_lr_decay,
        weight_decay_rate=0.0,
        warmup_proportion=0.1,
        train_batch_size=32,
        head_dropout_prob=0.1,
        adam_beta_1=0.9,
        adam_beta_2=0.999,
        adam_epsilon=1e-6,
    )
    program = _from(
        _OPTIMIZATION,
        optimizer="adamw",
        end_learning_rate=0.0,
        adam_bias_correction=False,
        max_grad_norm=1.0,
        layerwise_lr_decay_scheme="official",
    )
    return Preset(f"the paper's fine-tuning of ELECTRA-{size.capitalize()}", {**values, **program})


FINETUNING_PRESETS: dict[str, Preset] = {
    "electra_small": _finetuning("small", 3e-4, 0.8),
    "electra_base": _finetuning("base", 1e-4, 0.8),
    "electra_large": _finetuning("large", 5e-5, 0.9),
}
