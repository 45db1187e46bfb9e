"""All hyperparameters of pre-training, each with its default and meaning.

Set them with `run_pretraining.py --hparams`, as JSON or as name=value pairs. Names, defaults and
meanings are those of the official ELECTRA program, so its JSON files can be used as they are.
Some numbers may change over the run: [[step, value], …] is a ramp (docs/beyond_electra.md).
"""

from __future__ import annotations

import dataclasses
import posixpath
from typing import Any, Literal

from electra_tf2.hparams.presets import PresetName, preset_values, with_preset_overrides
from electra_tf2.hparams.ramps import largest
from electra_tf2.hparams.recipes import PRESETS
from electra_tf2.hparams.record import HParams, contradiction
from electra_tf2.hparams.shared_checks import (
    check_devices_and_batches,
    check_model_hparam_overrides,
    check_model_name,
    check_texts,
    resolved_network,
)
from electra_tf2.hparams.types import (
    BatchSize,
    Distribution,
    MaskProbability,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProbabilityBelowOne,
    Ramp,
    Seconds,
    Weights,
    WordLimit,
)
from electra_tf2.modeling.config import TransformerConfig, generator_config
from electra_tf2.patterns import literal
from electra_tf2.pretraining.guards import generator_size_warning
from electra_tf2.pretraining.hparam_checks import (
    check_across_phases,
    check_branch,
    check_embedding_sharing,
    check_generator_start,
    check_masking,
    check_mixture,
    check_objective,
    check_schedule,
    check_sizes,
)
from electra_tf2.pretraining.phases import (
    check_copied_positions,
    check_phases,
    for_each_phase,
    phases_of,
)
from electra_tf2.pretraining.resume_rules import decay_length


class PretrainingConfig(HParams):
    """The hparams of one pre-training run.

    Args:
        model_name: name of the model, a folder name.
        data_dir: folder the default paths are in.
        **overrides: hparams that differ from their defaults.

    Attributes:
        model_name, data_dir: as given.
        given, warnings: see `electra_tf2.hparams.record.HParams`.

    Raises:
        UserError: an hparam is unknown, of the wrong type, out of range or contradicts another.
    """

    # run
    preset: PresetName | None = None  # a published recipe (docs/presets.md); given hparams win
    debug: bool = False  # a tiny network and 20 steps, to try things out
    do_train: bool = True  # pre-train
    do_eval: bool = False  # evaluate on eval_tfrecords (after training, if both are set)
    seed: NonNegativeInt = 0  # fixes all random draws: weights, order, masks, samples, dropout
    require_gpu: bool = False  # stop with an error where TensorFlow sees no GPU
    report: bool = False  # write a page to look at, <model_dir>/report.html, at the end of the run

    # loss functions
    electra_objective: bool = True  # train ELECTRA; if this and Electric are false, a masked LM
    electric_objective: bool = False  # train Electric; sets two_tower_generator
    gen_weight: NonNegativeFloat | Ramp = 1.0  # weight of the generator's (masked LM) loss
    disc_weight: NonNegativeFloat | Ramp = 50.0  # weight of the discriminator's loss
    mask_prob: MaskProbability | Ramp = 0.15  # share of the tokens to mask out and replace;
    # a ramp goes from point to point while training, see docs/beyond_electra.md
    mask_with_replacement: bool = False  # draw positions as the official program does, some twice
    masking: Literal["token", "whole_word", "span"] = "token"  # what is hidden at a time: a token,
    # all pieces of a word, or one to ten words in a row (docs/beyond_electra.md)

    # optimization
    optimizer: Literal["adamw", "lamb"] = "adamw"  # Adam with decoupled decay, or LAMB
    learning_rate: PositiveFloat = 5e-4  # peak learning rate
    end_learning_rate: NonNegativeFloat = 0.0  # what the learning rate decays to
    lr_schedule: Literal["polynomial", "cosine", "inverse_sqrt", "wsd"] = "polynomial"  # wsd: warm
    # up, stay, and decay in the last lr_decay_steps; see docs/beyond_electra.md
    lr_decay_power: PositiveFloat = 1.0  # power of the polynomial decay; 1: linear
    lr_decay_steps: NonNegativeInt | None = None  # of wsd; null: a tenth of the steps; 0: no decay
    lr_decay_shape: Literal["1-sqrt", "linear"] = "1-sqrt"  # of the decay of wsd
    num_warmup_steps: NonNegativeInt = 10000  # linear warm-up, a factor on a polynomial; 0: none
    weight_decay_rate: NonNegativeFloat = 0.01  # not for LayerNorm and biases
    adam_beta_1: ProbabilityBelowOne = 0.9  # decay of the first moment
    adam_beta_2: ProbabilityBelowOne = 0.999  # decay of the second moment
    adam_epsilon: PositiveFloat = 1e-6  # added to the root of the second moment
    adam_bias_correction: bool = False  # divide the moments by 1 - beta^step; lamb: true
    max_grad_norm: PositiveFloat = 1.0  # clip the whole batch's gradient to this global norm
    gradient_accumulation_steps: PositiveInt = 1  # micro-batches per training batch
    on_nonfinite: Literal["stop", "skip"] = "stop"  # at a NaN or infinity: stop, or skip the update

    # training settings
    num_train_steps: PositiveInt = 1000000  # steps in all, those before a resume included
    num_eval_steps: PositiveInt = 100  # batches to evaluate at most
    eval_every_steps: NonNegativeInt = 0  # evaluate during training too, this often; 0: don't
    save_checkpoints_steps: PositiveInt = 1000  # a checkpoint this often, and one at the end
    keep_checkpoint_max: NonNegativeInt | None = 5  # newest checkpoints to keep; 0 or null: all
    log_every_steps: PositiveInt = 10  # a line of losses and metrics this often
    iterations_per_loop: PositiveInt = 200  # most steps per graph call; a call ends after about 5 s

    # model settings
    model_size: Literal["small", "base", "large"] = "small"  # 256 x 12, 768 x 12 or 1024 x 24
    model_hparam_overrides: dict[str, Any] = {}  # see electra_tf2/hparams/shared_checks.py
    embedding_size: PositiveInt | None = None  # null: 128 for small, else the hidden size;
    # albert: 128; modern: the hidden size
    encoder: Literal["bert", "albert", "modern"] = "bert"  # albert: one layer's weights serve all
    # layers; modern: ModernBERT's layers (docs/beyond_electra.md)
    vocab_size: PositiveInt = 30522  # number of tokens in the vocabulary
    do_lower_case: bool = True  # whether text is lower-cased; taken from the data set unless given
    strip_accents: bool = True  # whether accents are stripped; taken from the data set unless given
    max_word_characters: WordLimit = 200  # longest word that is split, not [UNK]; taken likewise

    # generator settings
    uniform_generator: bool = False  # replace by tokens drawn uniformly: no generator network
    two_tower_generator: bool = False  # a left-to-right and a right-to-left transformer
    untied_generator_embeddings: bool = False  # give the generator embeddings of its own
    generator_embedding_size: PositiveInt | None = None  # width of those; null: its hidden size
    embedding_sharing: Literal["shared", "gdes"] = "shared"  # gdes: the discriminator reads the
    # generator's embeddings but trains only what it adds to them (docs/beyond_electra.md)
    untied_generator: bool = True  # false: one full-size network is generator and discriminator
    generator_layers: PositiveFloat = 1.0  # its layers, as a share of the discriminator's
    generator_hidden_size: PositiveFloat = 0.25  # its hidden size, also a share
    init_generator: str | None = None  # a masked LM to take the generator's weights from
    train_generator: bool = True  # false: it stays as it is (Fast-ELECTRA, docs/beyond_electra.md),
    # with embeddings of its own
    disallow_correct: bool = False  # never sample the original token: 15 % are always fake
    temperature: PositiveFloat | Ramp = 1.0  # of the generator's samples; higher: more random

    # batches
    max_seq_length: PositiveInt = 128  # tokens per example; has to be the data set's
    train_batch_size: BatchSize | Ramp = 128  # examples per step, over all devices
    eval_batch_size: BatchSize = 128  # examples per evaluation batch, over all devices
    shuffle_buffer_size: PositiveInt = 10000  # examples held in memory to mix nearby ones
    segmentation: Literal["static", "dynamic"] = "static"  # dynamic: cut afresh in every epoch
    phases: list[dict[str, Any]] | None = None  # what differs by phase, see docs/pretraining.md
    copy_positions: PositiveInt | None = None  # before the first step, repeat the first so many
    # position embeddings over all others: for examples that get longer, see docs/beyond_electra.md

    # devices and speed
    distribution: Distribution = "auto"  # auto: all GPUs of this machine, else its CPU
    worker_timeout: Seconds = 300  # multi_worker: seconds to wait for the others at the start
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = "auto"  # to compute in;
    # auto: bfloat16 on GPUs that have it, else float32
    xla: bool | Literal["auto"] = "auto"  # compile the training step; auto: on a GPU
    compile_cache: str | None = "auto"  # folder to keep compiled programs in; auto: on a GPU, in
    # the user's folder of caches; null: nowhere
    deterministic: bool = False  # on a GPU, add numbers in the same order each time: slower, exact
    recompute: bool = False  # recompute activations in the backward pass: less memory, more time

    # TPU settings
    use_tpu: bool = False  # the official name of distribution "tpu"
    num_tpu_cores: PositiveInt = 1  # without effect: all cores are used
    tpu_job_name: str | None = None  # name of the TPU's job, if it is not "worker"
    tpu_name: str | None = None  # name or address; null: what the machine's environment says
    tpu_zone: str | None = None  # its zone
    gcp_project: str | None = None  # its project

    # files; globs may be joined by commas
    pretrain_tfrecords: str | Weights = ""  # {"globs": weight, …}: a mixture of corpora, see
    # docs/beyond_electra.md; default: <data-dir>/pretrain_tfrecords/pretrain_data.tfrecord*
    allow_other_data: bool = False  # resume even if those records have changed since the last step
    eval_tfrecords: str | None = None  # held-out records; null: evaluate on the training records
    vocab_file: str = ""  # default: <data-dir>/vocab.txt
    allow_unknown: bool = False  # train even on records that are nearly all [UNK]
    init_checkpoint: str | None = None  # weights to start a new run from; null: random ones
    branch_from: str | None = None  # a checkpoint of another model, <model>/checkpoints/step-…, to
    # continue in this one: weights, optimizer, step and place in the data
    model_dir: str = ""  # default: <data-dir>/models/<model-name>
    results_txt: str = ""  # default: <data-dir>/models/<model-name>/results/unsup_results.txt
    results_pkl: str = ""  # the same with .pkl; JSON is written, to this path with .json for .pkl

    # Neither the weights nor the order of the data depend on these; `phases` are compared one by
    # one, see electra_tf2/pretraining/phases.py.
    free_on_resume = frozenset(
        "preset do_train do_eval require_gpu report num_train_steps num_eval_steps "
        "eval_every_steps save_checkpoints_steps phases keep_checkpoint_max log_every_steps "
        "iterations_per_loop "
        "eval_batch_size distribution worker_timeout xla compile_cache deterministic "
        "use_tpu num_tpu_cores tpu_job_name "
        "tpu_name tpu_zone gcp_project pretrain_tfrecords allow_other_data eval_tfrecords "
        "vocab_file init_checkpoint init_generator branch_from model_dir results_txt "
        "results_pkl allow_unknown "
        "do_lower_case strip_accents max_word_characters".split()  # the tokenizer tells
    )

    def __init__(self, /, model_name: str, data_dir: str, **overrides: Any):
        self.model_name = model_name
        self.data_dir = data_dir
        self._preset = preset_values(overrides, data_dir)
        super().__init__(**with_preset_overrides(overrides))

    @property
    def max_predictions_per_seq(self) -> int:
        """Slots for masked positions in an example (official formula), for the largest share."""
        return int((largest(self.mask_prob) + 0.005) * self.max_seq_length)

    @property
    def decay_length(self) -> int:
        """Steps of the decay of the schedule "wsd"."""
        return decay_length(self.num_train_steps, self.lr_decay_steps)

    @property
    def has_generator_embeddings(self) -> bool:
        """Whether the generator's embeddings are not the discriminator's."""
        return self.untied_generator_embeddings or self.embedding_sharing == "gdes"

    def network(self) -> TransformerConfig:
        """The resolved sizes of the discriminator (the one network of a masked LM)."""
        return resolved_network(self)

    def generator_network(self, network: TransformerConfig | None = None) -> TransformerConfig:
        """The resolved sizes of a generator of its own, with those of its embeddings.

        Args:
            network: the discriminator's sizes; None: `network()`.
        """
        small = generator_config(
            network or self.network(),
            hidden_fraction=self.generator_hidden_size,
            layers_fraction=self.generator_layers,
        )
        if not self.untied_generator_embeddings:
            return small
        width = self.generator_embedding_size or small.hidden_size
        return dataclasses.replace(small, embedding_size=width)

    def prepare(self) -> None:
        """Sets default paths, so that another model_dir leaves results_txt, and the preset."""
        check_model_name(self.model_name, elsewhere="model_dir")
        join = posixpath.join
        records = "pretrain_tfrecords/pretrain_data.tfrecord*"
        self.pretrain_tfrecords = join(literal(self.data_dir), records)
        self.vocab_file = join(self.data_dir, "vocab.txt")
        self.model_dir = join(self.data_dir, "models", self.model_name)
        self.results_txt = join(self.model_dir, "results/unsup_results.txt")
        self.results_pkl = join(self.model_dir, "results/unsup_results.pkl")
        for name, value in self._preset.items():
            setattr(self, name, value)

    def resolve(self) -> None:
        """Sets what follows from debug, model_size, the objective, the generator and optimizer."""
        if self.debug:
            self.train_batch_size = 8
            self.num_train_steps = 20
            self.eval_batch_size = 4
            self.iterations_per_loop = 1
            self.num_eval_steps = 2
            self.phases = None
        small = self.model_size == "small" and self.encoder != "modern"
        if (small or self.encoder == "albert") and "embedding_size" not in self._preset:
            self.embedding_size = 128
        if self.electric_objective:
            self.two_tower_generator = True
        if not self.train_generator and self.embedding_sharing == "shared":
            self.untied_generator_embeddings = True
        if "adam_bias_correction" not in self._preset:
            self.adam_bias_correction = self.optimizer == "lamb"  # as in its publication
        self.vocab_size = self.model_hparam_overrides.get("vocab_size", self.vocab_size)

    def check(self) -> None:
        """Refuses hparams that don't go together; warns of those that rarely do."""
        self.model_hparam_overrides = check_model_hparam_overrides(self.model_hparam_overrides)
        check_phases(self)
        for_each_phase(self, PretrainingConfig._check_phase)
        check_copied_positions(self)
        self._warn_of_unfinished_ramps()
        check_across_phases(self)

    def _check_phase(self) -> None:
        self._check_run()
        check_schedule(self)
        check_objective(self)
        check_masking(self)
        check_mixture(self)
        check_embedding_sharing(self)
        check_generator_start(self)
        check_sizes(self)
        self._warn_of_small_settings()
        self._warn_of_steps()
        if self.do_train and (warning := generator_size_warning(self, self.network())):
            self.warnings.append(warning)

    def _check_run(self) -> None:
        check_texts(self)
        check_devices_and_batches(self)
        if not self.model_dir:
            raise contradiction(
                "The model needs a folder.",
                {"model_dir": self.model_dir},
                "Leave model_dir out for <data-dir>/models/<model-name>, or name a folder.",
            )
        if self.seed >= 1 << 32:
            raise contradiction(
                "The seed is too large.", {"seed": self.seed}, "Choose one below 2**32."
            )
        if self.branch_from is not None:
            check_branch(self, self.branch_from)
        if not self.do_train and not self.do_eval:
            raise contradiction(
                "There is nothing to do.",
                {"do_train": False, "do_eval": False},
                "Set do_train or do_eval to true.",
            )

    def _warn_of_small_settings(self) -> None:
        """Parity with the official program, which does not change these with the size either."""
        if self.preset is not None:
            return
        preset = f"electra_{self.model_size}"
        paper = {name: PRESETS[preset].values[name].value for name in _SETTINGS_OF_A_SIZE}
        kept = [n for n, v in paper.items() if n not in self.given and getattr(self, n) != v]
        if kept:
            listed = ", ".join(f"{n} {getattr(self, n):g} (paper: {paper[n]:g})" for n in kept)
            self.warnings.append(
                f"model_size {self.model_size} keeps the small model's settings: {listed}. "
                f"Set preset to {preset} to train as in the paper, or state them to silence this."
            )

    def _warn_of_steps(self) -> None:
        if self.do_train and self.num_warmup_steps >= self.num_train_steps:
            self.warnings.append(
                f"num_warmup_steps {self.num_warmup_steps} is not less than num_train_steps "
                f"{self.num_train_steps}: the learning rate never reaches {self.learning_rate:g}."
            )
        if (self.eval_every_steps or self.do_eval) and not self.eval_tfrecords:
            self.warnings.append(
                "eval_tfrecords is not set: the evaluation is on the training data."
            )

    def _warn_of_unfinished_ramps(self) -> None:
        """Evaluations are made with a ramp's last value, which training may not reach."""
        phases, found = phases_of(self), []
        for phase in phases if self.do_train else []:
            for name in phase.ramps:
                end = phase.last_step if name in phase.stated else phases[-1].last_step
                step, value = phase.points(name)[-1]
                if step > end:
                    found.append(
                        f"the ramp of {name} ends at step {step:,}, and training at {end:,}: it "
                        f"doesn't reach {value:g}, which evaluations are made with."
                    )
        self.warnings += dict.fromkeys(found)


# What the paper has otherwise for each size of the model, besides batch and steps.
_SETTINGS_OF_A_SIZE = ("learning_rate", "max_seq_length", "generator_hidden_size", "mask_prob")
