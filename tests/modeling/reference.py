"""A transformer encoder in float64 NumPy, written from the formulas."""

import numpy as np
import scipy.special

ACTIVATIONS = {
    "gelu": lambda z: z * scipy.special.ndtr(z),
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
    "linear": lambda z: z,
}


def weights_of(model):
    """Variable paths (without the model's name) and float64 values."""
    return {v.path.split("/", 1)[1]: np.asarray(v.numpy(), np.float64) for v in model.variables}


def encode(config, weights, input_ids, input_mask, segment_ids):
    """Hidden states [batch, length, hidden_size] of an encoder with these weights."""

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def layer_norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    batch, length = input_ids.shape
    x = weights["embeddings/word_embeddings"][input_ids]
    x = x + weights["embeddings/position_embeddings"][:length]
    x = x + weights["embeddings/token_type_embeddings"][segment_ids]
    x = layer_norm(x, "embeddings/layer_norm")
    if config.embedding_size != config.hidden_size:
        x = dense(x, "embeddings_project")
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    for i in range(config.num_hidden_layers):
        query, key, value = (
            dense(x, f"layer_{i}/attention/{name}")
            .reshape(batch, length, heads, size)
            .transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(size)
        scores = np.where(input_mask[:, None, None, :] > 0, scores, scores - 10000.0)
        probs = scipy.special.softmax(scores, axis=-1)
        attended = (probs @ value).transpose(0, 2, 1, 3).reshape(batch, length, -1)
        attended = dense(attended, f"layer_{i}/attention/output") + x
        attended = layer_norm(attended, f"layer_{i}/attention/layer_norm")
        inner = ACTIVATIONS[config.hidden_act](dense(attended, f"layer_{i}/intermediate"))
        x = layer_norm(dense(inner, f"layer_{i}/output") + attended, f"layer_{i}/layer_norm")
    return x
