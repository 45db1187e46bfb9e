"""What opens a model is the same for all that is done with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from electra_tf2.inference.source import Source, dtype_policy, open_source
from electra_tf2.training.precision import Precision


class FromPretrained:
    """Base of `Encoder`, `Discriminator` and `Generator`."""

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        vocab_file: str | os.PathLike[str] | None = None,
        precision: Precision = "float32",
        model_hparam_overrides: Mapping[str, Any] | None = None,
    ) -> Self:
        """Opens a model.

        Args:
            path: a model folder of this program (pre-trained or fine-tuned), one of its folders
                step-…, or a folder of another format that `open_pretrained` reads.
            vocab_file: the vocabulary; None: the one beside the model.
            precision: in which the network computes.
            model_hparam_overrides: fields of `TransformerConfig` that nothing beside the weights
                states, such as `num_attention_heads` for an official checkpoint.

        Raises:
            UserError: there is no model, or it can't be read, or parts of it are missing.
        """
        source = open_source(
            path, vocab_file=vocab_file, model_hparam_overrides=model_hparam_overrides
        )
        return cls.from_source(source, dtype_policy(precision))

    @classmethod
    def from_source(cls, source: Source, dtype: str) -> Self:
        """Builds the networks of an opened model.

        Args:
            source: the model.
            dtype: Keras dtype policy.

        Raises:
            UserError: the model lacks them.
        """
        raise NotImplementedError
