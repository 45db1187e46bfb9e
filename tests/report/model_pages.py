"""Model folders that look trained, and a reader of the page about them."""

import html.parser
import shutil

import keras
import numpy as np

from electra_tf2.console import say
from electra_tf2.data.input import open_training_files
from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.pretraining.run.build_pretraining import build_pretraining
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.reports import RunLog, kept_warnings
from finetune.classification.class_report import report_path, scores_of_classes, write_class_report
from finetune.run.results import Results, TrialResult, warnings_path
from tests.finetune import tiny_tasks
from tests.pretraining import tiny

# What a run of six steps reports: each figure another number.
TRAIN = {
    "loss": 31.5,
    "generator_loss": 3.21,
    "discriminator_loss": 0.4321,
    "masked_lm_accuracy": 0.125,
    "disc_accuracy": 0.875,
    "disc_auc": 0.6543,
    "tokens_per_second": 4096.0,
    "pfs_days": 2e-9,
}
EVAL = {**TRAIN, "generator_loss": 3.45, "masked_lm_accuracy": 0.2468, "disc_auc": 0.5678}
del EVAL["tokens_per_second"], EVAL["pfs_days"]
STEPS = 6


def write_pretrained(data_dir, name="page", *, reported=STEPS, warnings=(), **hparams):
    """Writes the folder of a model with random weights, as if it had been trained.

    Args:
        data_dir: with vocab.txt, and the records if examples are to be shown.
        name: of the model.
        reported: steps that it got to.
        warnings: that it gave.
        **hparams: beside those of `tiny`.

    Returns:
        The model's folder.
    """
    held_out = str(data_dir / "held_out" / tiny.GLOB)
    given = {"num_train_steps": STEPS, "do_eval": True, "eval_tfrecords": held_out} | hparams
    config = tiny.configure(data_dir, name, **given)
    vocabulary = load_vocabulary(config.vocab_file)
    keras.utils.set_random_seed(1)
    objective, _ = build_pretraining(config, config.network(), vocabulary)
    make_model_folder(config.model_dir)
    write_model_folder(
        config.model_dir,
        hparams={**config.to_dict(), "precision": "float32"},
        network=config.network(),
        vocab_file=config.vocab_file,
        casing=UNCASED,
    )
    variables = {**objective.named_variables(), **objective.named_constants()}
    weights = {n: 3 * np.asarray(v) for n, v in variables.items()}
    CheckpointStore(config.model_dir).save(reported, weights, {}, {"environment": {"device": "A"}})
    log = RunLog(config.model_dir)
    for step in range(2, reported + 1, 2):
        log.write(step, {**TRAIN, "loss": 40.0 - step})
    if reported >= STEPS:
        log.write(reported, EVAL, split="eval")
    log.close()
    with kept_warnings(f"{config.model_dir}/warnings.jsonl") as kept:
        kept.start()
        say(*(f"Warning: {warning}" for warning in warnings))
    return data_dir / "models" / name


def write_scores(data_dir, name="page", *, task="marks", classes=("bad", "good"), trials=3):
    """Writes the results of trials that nobody trained, with a report on the classes."""
    definition = tiny_tasks.HPARAMS["tasks"]["marks"]
    config = tiny_tasks.configure(data_dir, name, task_names=[task], tasks={task: definition})
    results = Results(config, config.to_dict(), {task: "accuracy"}, pfs_days=2e-9)
    results.check_same({})
    for number in range(1, trials + 1):
        scores = {task: {"accuracy": 80.0 + number, "loss": 0.5}}
        folder = f"{config.model_dir}_{number}"
        results.add(TrialResult(number, number - 1, folder, 12, 60.0, scores, rows={task: [33]}))
        log = RunLog(folder)
        log.write(6, {"mean_loss": 0.75})
        log.write(6, {"accuracy": 70.0 + number}, split="dev")
        log.close()
        figures = scores_of_classes([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], classes)
        write_class_report(figures, report_path(config, task, "dev", number), task)
    with kept_warnings(warnings_path(config.results_txt)) as kept:
        kept.start()
        say("Warning: a learning rate of a large model")
    return data_dir / "models" / name


def copy_data(source, target):
    """Copies vocabulary and records to a folder of a test's own."""
    for name in ("pretrain_tfrecords", "held_out"):
        shutil.copytree(source / name, target / name)
    shutil.copy(source / "vocab.txt", target)
    return target


def records_of(pattern, vocabulary):
    """All rows of input ids of some records."""
    files = open_training_files(
        pattern,
        segmentation="static",
        max_seq_length=tiny.LENGTH,
        vocabulary=vocabulary,
        casing=UNCASED,
    )
    rows = files.evaluation_dataset(
        max_seq_length=tiny.LENGTH, global_batch_size=1, max_batches=None
    )
    return [row["input_ids"][0] for row in rows.as_numpy_iterator()]


class Page(html.parser.HTMLParser):
    """What a page holds; refuses tags that are not closed in their order.

    Attributes:
        text: of each section, by its id; that before the sections by "".
        tags: (name, attributes) of all elements.
        tables: of each section, by its id: rows of cells.
    """

    WITHOUT_END = ("meta", "link", "br")

    def __init__(self, path):
        super().__init__()
        self.content = path.read_text("utf-8")
        self.text, self.tags, self.tables, self._open, self._section = {}, [], {}, [], ""
        self.feed(self.content)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["id"]
        if tag == "tr":
            self.tables.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.tables[self._section][-1].append("")
        if tag not in self.WITHOUT_END:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            return
        self.text[self._section] = self.text.get(self._section, "") + data
        if "td" in self._open or "th" in self._open:
            self.tables[self._section][-1][-1] += data

    def attributes(self, name):
        """All values of an attribute."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]
