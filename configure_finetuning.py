"""All hyperparameters of fine-tuning, each with its default and meaning.

Set them with `run_finetuning.py --hparams`, as JSON or as name=value pairs. Names, defaults and
meanings are those of the official ELECTRA program, so its JSON files can be used as they are.
"""

from __future__ import annotations

import json
import posixpath
import string
from collections.abc import Mapping
from typing import Any, Literal

from electra_tf2.errors import UserError
from electra_tf2.hparams.presets import FinetuningPresetName, preset_values
from electra_tf2.hparams.recipes import FINETUNING_PRESETS
from electra_tf2.hparams.record import HParams, contradiction
from electra_tf2.hparams.shared_checks import (
    HEADS,
    LONGEST_TASK_NAME,
    check_devices_and_batches,
    check_model_hparam_overrides,
    check_model_name,
    check_one_vocab_size,
    check_texts,
    folder_name_problem,
    resolved_network,
)
from electra_tf2.hparams.types import (
    BatchSize,
    BeamSize,
    Distribution,
    DropoutRate,
    Epochs,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProbabilityBelowOne,
    Seconds,
    ShareAboveZero,
    Temperature,
    WordLimit,
)
from electra_tf2.modeling.config import TransformerConfig


def _with_own_tasks(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Returns hparams, of a stored file too, with only what decides on the weights in `tasks`."""
    tasks, names = hparams.get("tasks", {}), hparams.get("task_names", [])
    if not isinstance(tasks, dict) or not isinstance(names, list | tuple):
        return dict(hparams)
    own = {name: definition for name, definition in tasks.items() if name in names}
    for name, definition in own.items():
        if isinstance(definition, dict):
            own[name] = {k: value for k, value in definition.items() if k not in ("files", "id")}
    return {**hparams, "tasks": own}


class FinetuningConfig(HParams):
    """The hparams of fine-tuning a pre-trained model on one or more tasks.

    Args:
        model_name: name of the pre-trained model, a folder name.
        data_dir: folder of the default paths.
        **overrides: hparams that differ from their defaults.

    Attributes:
        model_name, data_dir: as given.
        given, warnings: see `electra_tf2.hparams.record.HParams`.

    Raises:
        UserError: an hparam is unknown, of the wrong type, out of range, or contradicts another.
    """

    # run
    preset: FinetuningPresetName | None = None  # a published recipe (docs/presets.md)
    # given hparams win
    debug: bool = False  # a tiny random network on the first examples, to try things out
    log_examples: bool = False  # print the features of a training example
    num_trials: int = 1  # training runs with different seeds; negative: until stopped
    do_train: bool = True  # train; if false, evaluate init_checkpoint or the last trained model
    do_eval: bool = True  # score on the dev split
    keep_all_models: bool = True  # false: remove a trial's weights when the next one begins
    seed: NonNegativeInt = 0  # of the first trial; trial i has seed + i - 1
    overwrite: bool = False  # train again, in place of earlier trials
    require_gpu: bool = False  # stop with an error where TensorFlow sees no GPU
    report: bool = False  # write a page to look at, <model>/report.html, at the end of the run;
    # sets class_report

    # tasks
    task_names: list[str] = ["chunk"]  # trained together if more than one
    tasks: dict[str, Any] = {}  # tasks without code, name -> definition: see docs/finetuning.md

    # model settings; what is not given is taken from the pre-trained model
    model_size: Literal["small", "base", "large"] = "small"  # 256 x 12, 768 x 12 or 1024 x 24
    model_hparam_overrides: dict[str, Any] = {}  # see electra_tf2/hparams/shared_checks.py
    embedding_size: PositiveInt | None = None  # null: 128 for small, else the hidden size;
    # albert: 128; modern: the hidden size
    encoder: Literal["bert", "albert", "modern"] = "bert"  # albert: one layer's weights serve all
    # layers; modern: ModernBERT's layers (docs/beyond_electra.md)
    vocab_size: PositiveInt = 30522  # number of tokens in the vocabulary
    do_lower_case: bool = True  # lower-case the text
    strip_accents: bool = True  # remove accents from lower-cased text
    max_word_characters: WordLimit = 200  # longest word that is split into pieces, not [UNK]
    head_dropout_prob: DropoutRate = 0.1  # on the state that classifiers see
    allow_partial_init: bool = False  # start even if init_checkpoint lacks some of the encoder

    # optimization
    optimizer: Literal["adamw", "lamb"] = "adamw"  # Adam with decoupled decay, or LAMB
    learning_rate: PositiveFloat = 1e-4  # peak, of the task's head; large: 5e-5
    end_learning_rate: NonNegativeFloat = 0.0  # what the learning rate decays to, linearly
    layerwise_lr_decay: float | None = 0.8  # factor from layer to layer downwards; large: 0.9
    # 0 or less, or null: the same rate for all
    layerwise_lr_decay_scheme: Literal["official", "paper"] = "official"  # factor of the top layer
    # official: decay squared, as in that program; paper: decay
    weight_decay_rate: NonNegativeFloat = 0.01  # not for LayerNorm and biases
    num_train_epochs: Epochs = 3.0  # passes over the data; rte, sts: 10; QA: 2
    warmup_proportion: ProbabilityBelowOne = 0.1  # share of the steps to warm up the rate for
    adam_beta_1: ProbabilityBelowOne = 0.9  # decay of the first moment
    adam_beta_2: ProbabilityBelowOne = 0.999  # decay of the second moment
    adam_epsilon: PositiveFloat = 1e-6  # added to the root of the second moment
    adam_bias_correction: bool = False  # divide the moments by 1 - beta^step; lamb: true
    max_grad_norm: PositiveFloat = 1.0  # clip the whole batch's gradient to this global norm
    gradient_accumulation_steps: PositiveInt = 1  # micro-batches per training batch
    on_nonfinite: Literal["stop", "skip"] = "stop"  # at a NaN or infinity: stop, or skip the update

    # distillation: see docs/beyond_electra.md
    teacher: str | None = None  # folder of a fine-tuned model of the same tasks to learn from, too
    distillation_weight: ShareAboveZero = 0.5  # share of the distance from the teacher in the loss
    distillation_temperature: Temperature = 2.0  # what the logits of both are divided by

    # logs, evaluations and checkpoints, in steps
    log_every_steps: PositiveInt = 10  # a line of losses this often
    eval_every_steps: NonNegativeInt = 0  # score the dev split too, and keep the best weights
    best_metric: str | None = None  # dev metric that the best weights are chosen by, such as loss;
    # null: the main metric, or the mean of the tasks' main metrics
    patience: NonNegativeInt = 0  # end training after so many evaluations in a row without a better
    # best_metric; 0: never
    save_checkpoints_steps: PositiveInt = 1000000  # a checkpoint this often, and one at the end
    keep_checkpoint_max: NonNegativeInt | None = 5  # newest checkpoints to keep; 0 or null: all
    iterations_per_loop: PositiveInt = 1000  # most steps per graph call; it ends after about 5 s

    # features and batches
    use_tfrecords_if_existing: bool = True  # use cached features if data and settings are unchanged
    max_seq_length: PositiveInt = 128  # longest example, in tokens; QA: 512; chunk: 256
    pad_to_max_length: bool = False  # pad every batch to max_seq_length; else to its longest
    train_batch_size: BatchSize = 32  # examples per step, over all devices
    eval_batch_size: BatchSize = 32  # examples per batch on the dev split
    predict_batch_size: BatchSize = 32  # examples per batch when writing test predictions
    separate_ideographs: bool = True  # tagging: ideographs in words stand alone; official: false
    double_unordered: bool = True  # mrpc, sts: train on both orders of the two sentences

    # question answering
    max_query_length: PositiveInt = 64  # longest question, in tokens; the rest is cut off
    doc_stride: PositiveInt = 128  # step between the windows that a long passage is cut into; also
    # a long text of a task with windows
    n_best_size: PositiveInt = 20  # answers to keep for a question
    max_answer_length: PositiveInt = 30  # longest answer that is predicted, in tokens
    qa_spans: Literal["characters", "official"] = "characters"  # where answers begin and end
    # characters: as annotated; official: the first match in their words, or whole words
    qa_score_units: Literal["auto", "words", "mixed", "characters"] = "auto"  # EM and F1 compare
    # auto: words; mixed (each character) in scripts without spaces; characters: as in KorQuAD
    answerable_classifier: bool = True  # a classifier for "has no answer"
    answerable_uses_start_logits: bool = True  # which sees where the answer would start, too
    answerable_weight: NonNegativeFloat = 0.5  # weight of that classifier's loss
    joint_prediction: bool = True  # predict the end given the start
    beam_size: BeamSize = 20  # starts, and ends for each, that joint prediction considers
    qa_na_threshold: float = -2.75  # answer "none" where the null odds are above (SQuAD 2.0)

    # outputs
    write_test_outputs: bool = False  # write predictions for the test splits
    n_writes_test: NonNegativeInt = 5  # of the first so many trials
    class_report: bool = False  # write each class's scores and the confusion matrix, as a table
    # and as a picture

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

    # files; <model>: <data-dir>/models/<model-name>; {:} stands for task, split or trial
    raw_data_dir: str = ""  # default: <data-dir>/finetuning_data/{:}
    vocab_file: str = ""  # default: <model>/vocab.txt, or <data-dir>/vocab.txt without it
    init_checkpoint: str | None = None  # default: <model>; null: random weights
    model_dir: str = ""  # default: <model>/finetuning_models/<tasks>_model; _<trial> is added
    results_txt: str = ""  # default: <model>/results/<tasks>_results.txt
    results_pkl: str = ""  # the same with .pkl; JSON is written, to this path with .json for .pkl
    preprocessed_data_dir: str = ""  # default: <model>/finetuning_tfrecords/<tasks>_tfrecords
    test_predictions: str = ""  # default: <model>/test_predictions/{:}_{:}_{:}_predictions.pkl
    # JSON lines are written, to this path with .jsonl for .pkl
    qa_eval_file: str = ""  # default: <model>/results/<tasks>_qa/{:}_eval.json
    qa_preds_file: str = ""  # the same with {:}_preds.json, the answers
    qa_na_file: str = ""  # the same with {:}_null_odds.json

    # What neither the weights nor the scores of a trial depend on.
    free_on_resume = frozenset(
        "preset log_examples num_trials do_train do_eval keep_all_models overwrite require_gpu "
        "report log_every_steps eval_every_steps save_checkpoints_steps keep_checkpoint_max "
        "iterations_per_loop use_tfrecords_if_existing eval_batch_size predict_batch_size "
        "write_test_outputs n_writes_test class_report distribution worker_timeout xla "
        "compile_cache deterministic use_tpu num_tpu_cores tpu_job_name tpu_name tpu_zone "
        "gcp_project raw_data_dir vocab_file init_checkpoint model_dir results_txt results_pkl "
        "preprocessed_data_dir test_predictions qa_eval_file qa_preds_file qa_na_file "
        # sizes, as the stored network is compared
        "model_size embedding_size vocab_size encoder allow_partial_init".split()
    )

    def __init__(self, /, model_name: str, data_dir: str, **overrides: Any):
        self.model_name = model_name
        self.data_dir = data_dir
        self._task_names = overrides.get("task_names", type(self).task_names)
        self._preset = preset_values(overrides, data_dir, FINETUNING_PRESETS)
        super().__init__(**overrides)

    @property
    def pretrained_model_dir(self) -> str:
        """Folder of the pre-trained model, `<data-dir>/models/<model-name>`."""
        return posixpath.join(self.data_dir, "models", self.model_name)

    def raw_data_folder(self, task_name: str) -> str:
        """Returns the folder of a task's data files."""
        return self.raw_data_dir.format(task_name)

    def network(self) -> TransformerConfig:
        """The encoder's sizes by the hparams alone.

        Heads that are stated without a hidden size are those of the checkpoint's: they are not
        among these sizes, and have to fit that one alone.
        """
        if not self.heads_of_checkpoint:
            return resolved_network(self)
        others = {n: v for n, v in self.model_hparam_overrides.items() if n != HEADS}
        return resolved_network(self, others)

    @property
    def heads_of_checkpoint(self) -> int | None:
        """The number of attention heads that is stated for a checkpoint of any width."""
        overrides = self.model_hparam_overrides
        width_is_stated = {"model_size", "preset"} & self.given or "hidden_size" in overrides
        if self.init_checkpoint is None or width_is_stated:
            return None
        return overrides.get(HEADS)

    def prepare(self) -> None:
        """Sets the default paths (they don't follow another model_dir) and the preset's values."""
        check_model_name(self.model_name, elsewhere="init_checkpoint")
        join, model = posixpath.join, self.pretrained_model_dir
        # Braces in the folders' own names are not placeholders.
        literal = lambda path: path.replace("{", "{{").replace("}", "}}")  # noqa: E731
        names = self._task_names
        tasks = ",".join(map(str, names)) if isinstance(names, list) else ""  # checked later
        self.raw_data_dir = join(literal(self.data_dir), "finetuning_data", "{:}")
        self.init_checkpoint = model
        self.model_dir = join(model, "finetuning_models", f"{tasks}_model")
        self.results_txt = join(model, "results", f"{tasks}_results.txt")
        self.results_pkl = join(model, "results", f"{tasks}_results.pkl")
        qa = literal(join(model, "results", f"{tasks}_qa"))
        self.qa_eval_file = join(qa, "{:}_eval.json")
        self.qa_preds_file = join(qa, "{:}_preds.json")
        self.qa_na_file = join(qa, "{:}_null_odds.json")
        self.preprocessed_data_dir = join(model, "finetuning_tfrecords", f"{tasks}_tfrecords")
        self.test_predictions = join(
            literal(model), "test_predictions", "{:}_{:}_{:}_predictions.pkl"
        )
        for name, value in self._preset.items():
            setattr(self, name, value)

    def resolve(self) -> None:
        """Sets what follows from the task, model_size, optimizer, debug and overrides."""
        if len(self.task_names) == 1:
            for name, value in self._task_defaults(self.task_names[0]).items():
                setattr(self, name, value)
        if self.model_size == "large" and not self._preset:
            self.learning_rate = 5e-5
            self.layerwise_lr_decay = 0.9
        small = self.model_size == "small" and self.encoder != "modern"
        if small or self.encoder == "albert":
            self.embedding_size = 128
        if self.report:
            self.class_report = True
        if "adam_bias_correction" not in self._preset:
            self.adam_bias_correction = self.optimizer == "lamb"  # as in its publication
        if self.debug:
            self.init_checkpoint = None
            self.use_tfrecords_if_existing = False
            self.num_trials = 1
            self.iterations_per_loop = 1
            self.train_batch_size = 32
            self.num_train_epochs = 3.0
            self.log_examples = True
            self.preprocessed_data_dir += "-debug"
            self.model_dir += "-debug"
            self.results_txt = self.results_txt.removesuffix(".txt") + "-debug.txt"
            self.results_pkl = self.results_pkl.removesuffix(".pkl") + "-debug.pkl"
        self.vocab_size = self.model_hparam_overrides.get("vocab_size", self.vocab_size)

    @classmethod
    def changed_on_resume(
        cls, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> list[tuple[str, Any, Any]]:
        """Hparams that differ although a resumed run has to keep them; see the base class.

        With `patience`, the steps at which the dev split is scored decide when training ends. A
        teacher may have been moved; its weights are compared by the trial. So are the contents of
        data files. Definitions of tasks that are not trained don't matter.
        """
        changed = super().changed_on_resume(*map(_with_own_tasks, (old, new)))
        changed = [(n, *both) for n, *both in changed if n != "teacher" or None in both]
        every = [values.get("eval_every_steps", 0) for values in (old, new)]
        if new.get("patience") and every[0] != every[1]:
            changed.append(("eval_every_steps", *every))
        return changed

    def _task_defaults(self, name: str) -> dict[str, Any]:
        definition = self.tasks.get(name)
        if isinstance(definition, dict):
            return _QA_DEFAULTS if definition.get("kind") == "qa" else {}
        return TASK_DEFAULTS.get(name, {})

    def check(self) -> None:
        """Refuses contradictory hparams."""
        self.model_hparam_overrides = check_model_hparam_overrides(self.model_hparam_overrides)
        self._check_tasks()
        self._check_run()
        self._check_sizes()
        self._check_paths()

    def _check_tasks(self) -> None:
        if not self.task_names:
            raise contradiction(
                "There is no task.", {"task_names": []}, "Name at least one, such as cola."
            )
        if self.tasks and "task_names" not in self.given:
            named = json.dumps(list(self.tasks), ensure_ascii=False)
            raise contradiction(
                "Tasks are defined, but none is named to be trained.",
                {"tasks": ", ".join(self.tasks), "task_names": "not given"},
                f'Name them: "task_names": {named}.',
            )
        for name in self.task_names:
            problem = folder_name_problem(name, LONGEST_TASK_NAME)
            if not problem and set(name) & set(",\\"):
                problem = "it has a comma or a backslash"
            if problem:
                raise UserError(
                    "A task's name is not a folder name.",
                    where="hparam task_names",
                    received=f"{name!r:.200}: {problem}",
                    remedy="Give it a short name without slashes, commas and control characters: "
                    "its data lie in a folder of that name.",
                )
        if len(set(self.task_names)) < len(self.task_names):
            raise contradiction(
                "A task is named twice.", {"task_names": self.task_names}, "Name each task once."
            )
        for name, definition in self.tasks.items():
            if not isinstance(definition, dict):
                raise contradiction(
                    "The definition of a task is not an object.",
                    {f"tasks.{name}": definition},
                    'Write for example {"kind": "classification", "text": "sentence", '
                    '"label": "label"}.',
                )

    def _check_run(self) -> None:
        check_texts(self, "vocab_file")
        check_devices_and_batches(self)
        if self.num_trials == 0:
            raise contradiction(
                "There is nothing to do.",
                {"num_trials": 0},
                "Set it to 1 or more, or to -1 to train until stopped.",
            )
        if not self.do_train and not self.do_eval and not self.write_test_outputs:
            raise contradiction(
                "There is nothing to do.",
                {"do_train": False, "do_eval": False, "write_test_outputs": False},
                "Set do_train or do_eval to true.",
            )
        for name in ("patience", "best_metric"):
            if getattr(self, name) and not self.eval_every_steps:
                raise contradiction(
                    "The dev split is not scored during training.",
                    {name: getattr(self, name), "eval_every_steps": 0},
                    "Set eval_every_steps to the number of steps between evaluations.",
                )
        for name in ("distillation_weight", "distillation_temperature"):
            if not self.teacher and getattr(self, name) != getattr(type(self), name):
                raise contradiction(
                    "There is no teacher to distill.",
                    {name: getattr(self, name), "teacher": None},
                    "Set teacher to the folder of a fine-tuned model, or leave the other out.",
                )
        if self.seed + max(self.num_trials, 1) > 1 << 32:
            raise contradiction(
                "The last trial's seed is too large.",
                {"seed": self.seed, "num_trials": self.num_trials},
                "Choose them so that their sum is below 2**32.",
            )

    def _check_sizes(self) -> None:
        check_one_vocab_size(self)
        if self.layerwise_lr_decay is not None and self.layerwise_lr_decay > 1:
            raise contradiction(
                "The layers' learning rates would grow downwards.",
                {"layerwise_lr_decay": self.layerwise_lr_decay},
                "Choose a factor of at most 1; 0 turns it off.",
            )
        self.network()

    def _check_paths(self) -> None:
        self.model_dir = self.model_dir.rstrip("/")  # a trial's number is added to it
        for name, fields in (
            ("raw_data_dir", 1),
            ("qa_eval_file", 1),
            ("qa_preds_file", 1),
            ("qa_na_file", 1),
            ("test_predictions", 3),
        ):
            pattern = getattr(self, name)
            needed = fields if len(self.task_names) > 1 or fields > 1 else 0
            if _fields_that_count(pattern, fields) < needed:
                raise contradiction(
                    "A path lacks the placeholders of its parts.",
                    {name: pattern},
                    f"Write {{:}} in it {fields} times"
                    + (", for task, split and trial." if fields == 3 else ", for the task."),
                )
        qa = [self.qa_eval_file, self.qa_preds_file, self.qa_na_file]
        if len(set(qa)) < len(qa):
            raise contradiction(
                "Two of the files of question answering are the same.",
                {"qa_eval_file": qa[0], "qa_preds_file": qa[1], "qa_na_file": qa[2]},
                "Give each a path of its own.",
            )
        named_after_tasks = ("model_dir", "results_txt", "results_pkl", "preprocessed_data_dir")
        for name in (*named_after_tasks, "qa_eval_file", "qa_preds_file", "qa_na_file"):
            path = getattr(self, name)
            if not path:
                raise contradiction("A path is empty.", {name: ""}, "Leave it out for its default.")
            longest = max(len(part.encode("utf-8", "replace")) for part in path.split("/"))
            if longest > _LONGEST_FILE_NAME:
                raise UserError(
                    "A file's name is too long; by default it has the names of all tasks.",
                    where=f"hparam {name}",
                    received=f"{longest} bytes: {path!r:.200}",
                    remedy=f"Set {name} to a path whose parts have at most {_LONGEST_FILE_NAME} "
                    "bytes, or give the tasks shorter names.",
                )


# Systems allow 255; "_<trial>.replaced", ".lock" and the like are added.
_LONGEST_FILE_NAME = 230


# Of a value in a path, such as ">10".
_LONGEST_FORMAT = 4


def _fields_that_count(pattern: str, fields: int) -> int:
    """Number of the values filled into a pattern that change it; -1: it is broken."""
    try:
        for _, field, spec, _ in string.Formatter().parse(pattern):
            # Not parts of a value, such as {0[a]}, nor the width of a line of a gigabyte.
            if field and not field.isdigit() or len(spec or "") > _LONGEST_FORMAT:
                return -1
        first = pattern.format(*["a"] * fields)
        others = [pattern.format(*("b" if i == j else "a" for j in range(fields)))
                  for i in range(fields)]  # fmt: skip
    except (IndexError, KeyError, ValueError, AttributeError):
        return -1
    return sum(other != first for other in others)


_QA_DEFAULTS = {"max_seq_length": 512, "num_train_epochs": 2.0}

TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "rte": {"num_train_epochs": 10.0},
    "sts": {"num_train_epochs": 10.0},
    "chunk": {"max_seq_length": 256},
    **dict.fromkeys(
        ("squad", "squadv1", "newsqa", "naturalqs", "triviaqa", "searchqa"), _QA_DEFAULTS
    ),
}
"""What a task sets where it is the only one (official values; naturalqs misses them there)."""
