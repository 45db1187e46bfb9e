"""Scores of question answering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetune.changed_files import file_changed
from finetune.json_files import write_json
from finetune.qa.answer_metrics import score_answers, score_with_unanswerable
from finetune.qa.decoding import Candidates, Decoder, Decoding, best_text
from finetune.qa.examples import QAExample
from finetune.qa.windows import tokenize_questions
from finetune.scorer import Scorer

if TYPE_CHECKING:
    from finetune.qa.qa_tasks import QATask


class WindowOutputs:
    """The outputs of windows, gathered in any order, and the answers that they give.

    Args:
        task: the task that the windows are of.
        split: the split, for messages.
    """

    def __init__(self, task: QATask, split: str):
        self._task = task
        self._split = split
        self._decoder = Decoder(task.config, task.tokenizer)
        self._windows: dict[int, Candidates] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, results: Mapping[str, Any]) -> None:
        """Takes one window's outputs; see `Scorer.update`.

        Raises:
            ValueError: there are outputs of this window already.
        """
        eid = int(results["eid"])
        if eid in self._windows:
            raise ValueError(f"Outputs of a window came twice. Received: eid {eid}")
        self._windows[eid] = self._decoder.candidates(results)

    def decode(
        self, examples: Sequence[QAExample], n_best: int | None = None
    ) -> Iterator[tuple[QAExample, Decoding]]:
        """Decodes the answers.

        Args:
            examples: the questions whose windows' outputs were taken.
            n_best: how many answers each to find; default the hparam n_best_size.

        Yields:
            Question and answers, in the order of the examples.

        Raises:
            UserError: the windows of these questions are not those whose outputs were taken: the
                file was changed.
        """
        task, used = self._task, 0
        for question in tokenize_questions(examples, task.tokenizer, task.config):
            eids = [question.eid(i) for i in range(len(question.windows))]
            missing = [eid for eid in eids if eid not in self._windows]
            if missing:
                raise file_changed(
                    task,
                    self._split,
                    f"window {missing[0]} (of question {question.example.id!r}), of which the "
                    "model has no outputs",
                )
            used += len(eids)
            windows = [self._windows[eid] for eid in eids]
            yield question.example, self._decoder.decode(question, windows, n_best)
        if used < len(self._windows):
            received = f"{used} windows; the model has outputs of {len(self._windows)}"
            raise file_changed(task, self._split, received)


class SpanBasedQAScorer(Scorer):
    """Scores answers by the definition of the task: SQuAD 1.1 and MRQA, or SQuAD 2.0.

    Args:
        task: the task; with `task.v2` SQuAD 2.0's definition counts.
        split: the split that the windows are of; its answers are read when results are asked for.
    """

    def __init__(self, task: QATask, split: str = "dev"):
        self._task = task
        self._split = split
        self._outputs = WindowOutputs(task, split)
        self._total_loss = 0.0
        self._decoded: list[tuple[QAExample, Decoding]] | None = None

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one window; see `Scorer.update`."""
        self._outputs.add(results)
        self._total_loss += float(results["loss"])
        self._decoded = None

    def get_loss(self) -> float:
        """Returns the mean loss of the windows taken so far."""
        return self._total_loss / max(len(self._outputs), 1)

    def get_results(self) -> list[tuple[str, float]]:
        """Returns the metrics by name, sorted.

        Raises:
            UserError: the windows taken are not those of the split's file: it was changed.
        """
        gold = {example.id: example.gold for example, _ in self._answered()}
        answers = self.answers()
        if not self._task.v2:
            results = score_answers(gold, answers)
        else:
            threshold = self._task.config.qa_na_threshold
            results = score_with_unanswerable(gold, answers, self.null_odds(), threshold)
        return sorted(results.items())

    def answers(self) -> dict[str, str]:
        """Returns the best answer to each question, by its name.

        With `task.v2` that is the best non-empty text, whatever the null odds are.
        """
        return {
            example.id: (best_text(found.answers) if self._task.v2 else found.answers[0]).text
            for example, found in self._answered()
        }

    def null_odds(self) -> dict[str, float]:
        """Returns what speaks for "no answer" to each question, by its name."""
        return {example.id: found.null_odds for example, found in self._answered()}

    def stuck_at(self) -> str | None:
        """Says whether all questions get the same answer, or all none."""
        answers = self.answers()
        if self._task.v2:
            threshold = self._task.config.qa_na_threshold
            if all(odds > threshold for odds in self.null_odds().values()):
                return "no answer"
        if len(answers) > 1 and len(set(answers.values())) == 1:
            return f"the answer {next(iter(answers.values()))!r}"
        return None

    def write_files(self) -> list[str]:
        """Writes answers, scores and, with `task.v2`, null odds as JSON.

        The paths are the hparams qa_preds_file, qa_eval_file and qa_na_file.

        Returns:
            The files written.
        """
        config = self._task.config
        contents = {config.qa_preds_file: self.answers()}
        if self._task.v2:
            contents[config.qa_na_file] = self.null_odds()
        contents[config.qa_eval_file] = dict(self.get_results())
        paths = []
        for pattern, content in contents.items():
            path = pattern.format(self._task.name)
            write_json(path, content)
            paths.append(path)
        return paths

    def _answered(self) -> list[tuple[QAExample, Decoding]]:
        if self._decoded is None:
            examples = self._task.get_examples(self._split)
            # The scores need the best text only, and most of the time goes into texts.
            self._decoded = list(self._outputs.decode(examples, n_best=1))
        return self._decoded
