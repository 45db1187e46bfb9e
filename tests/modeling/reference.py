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


def encode_modern(config, weights, input_ids, input_mask):
    """The same of an encoder of the kind "modern"; positions are turned one complex number each."""

    def layer_norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * weights[f"{name}/gamma"]

    batch, length = input_ids.shape
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    distances = np.abs(np.arange(length)[:, None] - np.arange(length))

    def turned(x, theta):
        angles = np.arange(length)[:, None] * theta ** (-2 * np.arange(size // 2) / size)
        pairs = (x[..., : size // 2] + 1j * x[..., size // 2 :]) * np.exp(1j * angles)
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    x = layer_norm(weights["embeddings/word_embeddings"][input_ids], "embeddings/layer_norm")
    if config.embedding_size != config.hidden_size:
        x = x @ weights["embeddings_project/kernel"]
    for i in range(config.num_hidden_layers):
        is_global = i % config.global_attention_every == 0
        theta = config.global_rope_theta if is_global else config.local_rope_theta
        y = layer_norm(x, f"layer_{i}/attention/layer_norm") if i else x
        query, key, value = (
            (y @ weights[f"layer_{i}/attention/{name}/kernel"])
            .reshape(batch, length, heads, size)
            .transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        scores = turned(query, theta) @ turned(key, theta).transpose(0, 1, 3, 2) / np.sqrt(size)
        seen = input_mask[:, None, None, :] > 0
        if not is_global:
            seen = seen & (distances <= config.local_attention // 2)
        probs = scipy.special.softmax(np.where(seen, scores, scores - 10000.0), axis=-1)
        attended = (probs @ value).transpose(0, 2, 1, 3).reshape(batch, length, -1)
        x = x + attended @ weights[f"layer_{i}/attention/output/kernel"]
        y = layer_norm(x, f"layer_{i}/layer_norm")
        inner = ACTIVATIONS[config.hidden_act](y @ weights[f"layer_{i}/intermediate/kernel"])
        inner = inner * (y @ weights[f"layer_{i}/gate/kernel"])
        x = x + inner @ weights[f"layer_{i}/output/kernel"]
    return layer_norm(x, "final_layer_norm")
