"""Models with random weights whose masked LM can be a generator, written without training."""

from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import build_pair
from electra_tf2.text.normalization import UNCASED
from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.small_corpus import PIECES
from tests.pretraining import tiny

# As the generator of `tiny.HPARAMS` has them, but for the width of its embeddings.
MASKED_LM = TransformerConfig(
    vocab_size=len(PIECES),
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=32,
    embedding_size=4,
    max_position_embeddings=tiny.LENGTH,
    initializer_range=0.3,
)
# The discriminator of `tiny.HPARAMS`.
DISCRIMINATOR = TransformerConfig(
    **MASKED_LM.to_dict()
    | {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64, "embedding_size": 8}
)


def write_model(folder, vocab_file, network=MASKED_LM, *, casing=UNCASED, hparams=None, **pair):
    """Writes a model's folder, of a masked LM by default; returns its weights.

    Args:
        folder: to make.
        vocab_file: its vocabulary.
        network: sizes of the network that is kept.
        casing: of its text.
        hparams: those of its training that it states.
        **pair: arguments of `build_pair`.
    """
    built = build_pair(network, **({"with_discriminator": False} | pair))
    models = filter(None, (built.generator, built.discriminator))
    weights = {v.path: v.numpy() for model in models for v in model.trainable_variables}
    make_model_folder(str(folder))
    write_model_folder(
        str(folder),
        hparams=hparams or {},
        network=network,
        vocab_file=str(vocab_file),
        casing=casing,
    )
    CheckpointStore(str(folder)).save(2, weights, {}, {"examples_seen": 16})
    return weights
