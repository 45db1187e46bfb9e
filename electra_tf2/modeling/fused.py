"""The element-wise chains between matrix products, each one compiled function.

Between two matrix products a transformer only adds, scales and normalizes: as separate TensorFlow
operations these chains move every activation through memory many times. Each chain here has a
hand-written gradient that keeps the least for the backward pass, and is one XLA-compiled loop where
the tensors are large enough for that to pay.
Arithmetic is float32 inside, whatever the type of the activations.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from electra_tf2.modeling.layers import DropoutMask

# Compiling element-wise functions where it pays.


# Elements of the first argument from which on a compiled function is faster on a CPU, measured on
# two cores: handing a function to XLA and waiting for it takes longer than passing over a small
# tensor a few times. TensorFlow's own operations are slow in 16 bits: it pays earlier there.
MIN_ELEMENTS = {tf.float32: 1 << 21, tf.bfloat16: 1 << 18, tf.float16: 1 << 18}


def compiled_if_large(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets XLA compile calls of `function` whose first argument is large, see `MIN_ELEMENTS`.

    Args:
        function: takes tensors (and constants); the first one's size decides. Its result must not
            depend on whether it is compiled, except for rounding.

    Returns:
        The function; calls with few elements, or with a number of them that is not known when the
        graph is built, become operations of the surrounding graph.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    def call(first: tf.Tensor, *args: Any) -> Any:
        elements = first.shape.num_elements()
        # A size that varies is not compiled: XLA would compile again for every size.
        large = elements is not None and elements >= MIN_ELEMENTS.get(first.dtype, 0)
        return (compiled if large else function)(first, *args)

    return call


_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


def _f32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)


@compiled_if_large
def _bias_gelu_forward(x, bias):
    z = _f32(x) + bias
    return tf.cast(0.5 * z * (1.0 + tf.math.erf(z * _SQRT_HALF)), x.dtype)


@compiled_if_large
def _bias_gelu_backward(x, bias, upstream):
    z = _f32(x) + bias
    cdf = 0.5 * (1.0 + tf.math.erf(z * _SQRT_HALF))
    density = tf.exp(-0.5 * z * z) * _INV_SQRT_2PI
    dz = _f32(upstream) * (cdf + z * density)
    return tf.cast(dz, x.dtype), tf.reduce_sum(dz, axis=0)


@tf.custom_gradient
def bias_gelu(x: tf.Tensor, bias: tf.Tensor):
    """Exact GELU of `x + bias`: z Φ(z), Φ the normal distribution function (arXiv:1606.08415).

    Args:
        x: [rows, width] activations, any float type.
        bias: float32 [width].

    Returns:
        [rows, width], the type of `x`.
    """
    return _bias_gelu_forward(x, bias), lambda upstream: _bias_gelu_backward(x, bias, upstream)


def bias_gelu_of_product(product: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`bias_gelu` where no gradient is wanted: one operation with the matrix product before it.

    On a CPU TensorFlow's oneDNN kernels take a matrix product, its bias and an exact GELU together,
    inside in float32 and without another pass over the activations, where the graph has them as
    they are written here. Elsewhere this is `bias_gelu`.

    Args:
        product: [rows, width], the result of `tf.matmul`, any float type.
        bias: float32 [width].

    Returns:
        [rows, width], the type of `product`.
    """
    if not uses_onednn():
        return bias_gelu(product, bias)  # pyright: ignore[reportReturnType] # no stub
    z = tf.nn.bias_add(product, tf.cast(bias, product.dtype))
    half, root = (tf.constant(value, z.dtype) for value in (0.5, _SQRT_HALF))
    return (tf.math.erf(z * root) + tf.constant(1.0, z.dtype)) * (z * half)


@compiled_if_large
def _biased_residual_layer_norm(product, bias, residual, gamma, beta, epsilon):
    z = tf.nn.bias_add(_f32(product), bias) + _f32(residual)
    return tf.cast(_normalize(z, epsilon)[0] * gamma + beta, product.dtype)


def residual_layer_norm_of_product(
    product: tf.Tensor,
    bias: tf.Tensor,
    residual: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    *,
    epsilon: float,
) -> tf.Tensor:
    """`residual_layer_norm` where no gradient is wanted: the bias goes into the matrix product.

    TensorFlow would else add the residual first, and lose oneDNN's faster product with a bias.
    Arguments and result are those of `residual_layer_norm`, without dropout.
    """
    if not uses_onednn():
        return residual_layer_norm(
            product, bias, residual, gamma, beta, dropout=None, epsilon=epsilon
        )
    return _biased_residual_layer_norm(product, bias, residual, gamma, beta, epsilon)


def is_single_text(x: tf.Tensor, seed: tf.Tensor | None) -> bool:
    """Whether attention should keep oneDNN from what is small: one text, no gradient, on a CPU.

    oneDNN's transposes, softmax and batched products take up to 90 µs each however small they are,
    to wake the other threads above all: for 13 tokens together as long as all matrix products.
    TensorFlow's own take 2 to 9 µs, and at 128 tokens both are equal.

    Args:
        x: [batch, length, width]; the graph is for one text if its batch is known to be 1.
        seed: of dropout; None: there is none.
    """
    return seed is None and x.shape[0] == 1 and x.dtype == tf.float32 and uses_onednn()


def plain_product(a: tf.Tensor, b: tf.Tensor, transpose_b: bool = False) -> tf.Tensor:
    """Returns `tf.matmul` of two batches of matrices, which oneDNN leaves to TensorFlow.

    Args:
        a: [..., rows, inner].
        b: [..., inner, columns]; with `transpose_b` [..., columns, inner].
        transpose_b: whether the matrices of `b` are transposed first.

    Returns:
        [..., rows, columns], the type of `a`.
    """
    return tf.raw_ops.BatchMatMulV3(x=a, y=b, adj_y=transpose_b, Tout=a.dtype)


def plain_softmax(scores: tf.Tensor) -> tf.Tensor:
    """Returns `tf.nn.softmax` of float32 [..., n] over the last axis, which oneDNN leaves alone."""
    powers = tf.exp(scores - tf.reduce_max(scores, axis=-1, keepdims=True))
    return powers / tf.reduce_sum(powers, axis=-1, keepdims=True)


_plain: contextvars.ContextVar[bool] = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def without_fused_products() -> Iterator[None]:
    """A context in which graphs are built for other programs than TensorFlow.

    There `bias_gelu_of_product` is written as TFLite recognizes a GELU, which has no `Erf`.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def uses_onednn() -> bool:
    """Whether oneDNN will compute the matrix products of a graph, on a CPU."""
    return not _plain.get() and _has_onednn()


@functools.cache
def _has_onednn() -> bool:
    return (
        platform.machine() == "x86_64"
        and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"
        and not tf.config.list_physical_devices("GPU")
    )


@compiled_if_large
def _gated_gelu_forward(x, gate):
    z = _f32(x)
    return tf.cast(0.5 * z * (1.0 + tf.math.erf(z * _SQRT_HALF)) * _f32(gate), x.dtype)


@compiled_if_large
def _gated_gelu_backward(x, gate, upstream):
    z, up = _f32(x), _f32(upstream)
    cdf = 0.5 * (1.0 + tf.math.erf(z * _SQRT_HALF))
    density = tf.exp(-0.5 * z * z) * _INV_SQRT_2PI
    dz = up * _f32(gate) * (cdf + z * density)
    return tf.cast(dz, x.dtype), tf.cast(up * z * cdf, gate.dtype)


@tf.custom_gradient
def gated_gelu(x: tf.Tensor, gate: tf.Tensor):
    """Exact GELU of `x`, times `gate` (GeGLU, arXiv:2002.05202).

    Args:
        x: [rows, width] activations, any float type.
        gate: the shape and type of `x`.

    Returns:
        [rows, width], the type of `x`.
    """
    return _gated_gelu_forward(x, gate), lambda upstream: _gated_gelu_backward(x, gate, upstream)


def _normalize(z, epsilon):
    mean = tf.reduce_mean(z, axis=-1, keepdims=True)
    centered = z - mean
    variance = tf.reduce_mean(centered * centered, axis=-1, keepdims=True)
    inverse = tf.math.rsqrt(variance + epsilon)
    return centered * inverse, inverse


def _normalize_backward(normalized, inverse, gamma, upstream):
    """Gradient of gamma * normalized + beta with respect to the normalized function's input."""
    dn = upstream * gamma
    mean_dn = tf.reduce_mean(dn, axis=-1, keepdims=True)
    mean_dn_n = tf.reduce_mean(dn * normalized, axis=-1, keepdims=True)
    dz = inverse * (dn - mean_dn - normalized * mean_dn_n)
    return dz, tf.reduce_sum(upstream * normalized, axis=0), tf.reduce_sum(upstream, axis=0)


def _dropped(z, keep, threshold, scale):
    if keep is None:
        return z
    return tf.where(keep >= threshold, z * scale, 0.0)


@compiled_if_large
def _layer_norm_forward(x, gamma, epsilon):
    normalized, inverse = _normalize(_f32(x), epsilon)
    return tf.cast(normalized * gamma, x.dtype), tf.cast(normalized, x.dtype), inverse


@compiled_if_large
def _layer_norm_backward(normalized, inverse, gamma, upstream):
    dz, dgamma, _ = _normalize_backward(_f32(normalized), inverse, gamma, _f32(upstream))
    return tf.cast(dz, upstream.dtype), dgamma


def scaled_layer_norm(x: tf.Tensor, gamma: tf.Tensor, *, epsilon: float) -> tf.Tensor:
    """LayerNorm without a shift, the beginning of both halves of a pre-LayerNorm block.

    Args:
        x: [rows, width], any float type.
        gamma: float32 [width], its scale.
        epsilon: added to the variance.

    Returns:
        [rows, width], the type of `x`.
    """

    @tf.custom_gradient
    def apply(x, gamma):
        y, normalized, inverse = _layer_norm_forward(x, gamma, epsilon)
        return y, lambda upstream: _layer_norm_backward(normalized, inverse, gamma, upstream)

    return apply(x, gamma)  # pyright: ignore[reportReturnType] # no stub


@compiled_if_large
def _residual_layer_norm_forward(x, bias, residual, gamma, beta, keep, threshold, scale, epsilon):
    z = _dropped(_f32(x) + bias, keep, threshold, scale) + _f32(residual)
    normalized, inverse = _normalize(z, epsilon)
    return tf.cast(normalized * gamma + beta, x.dtype), tf.cast(normalized, x.dtype), inverse


@compiled_if_large
def _residual_layer_norm_backward(normalized, inverse, gamma, keep, threshold, scale, upstream):
    dz, dgamma, dbeta = _normalize_backward(_f32(normalized), inverse, gamma, _f32(upstream))
    dx = _dropped(dz, keep, threshold, scale)
    return (
        tf.cast(dx, upstream.dtype),
        tf.reduce_sum(dx, axis=0),
        tf.cast(dz, upstream.dtype),
        dgamma,
        dbeta,
    )


def residual_layer_norm(
    x: tf.Tensor,
    bias: tf.Tensor,
    residual: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    *,
    dropout: DropoutMask | None,
    epsilon: float,
) -> tf.Tensor:
    """LayerNorm(dropout(x + bias) + residual), the end of both halves of a post-LayerNorm block.

    Args:
        x: [rows, width], a matrix product without its bias.
        bias: float32 [width].
        residual: [rows, width], the input of the half block.
        gamma: float32 [width], LayerNorm's scale.
        beta: float32 [width], LayerNorm's shift.
        dropout: the mask over [rows, width], or None.
        epsilon: added to the variance.

    Returns:
        [rows, width], the type of `x`.
    """
    keep, threshold, scale = (None, None, None) if dropout is None else dropout

    @tf.custom_gradient
    def apply(x, bias, residual, gamma, beta):
        y, normalized, inverse = _residual_layer_norm_forward(
            x, bias, residual, gamma, beta, keep, threshold, scale, epsilon
        )
        return y, lambda upstream: _residual_layer_norm_backward(
            normalized, inverse, gamma, keep, threshold, scale, upstream
        )

    return apply(x, bias, residual, gamma, beta)  # pyright: ignore[reportReturnType] # no stub


@compiled_if_large
def _attention_probs_forward(scores, mask, keep, threshold, scale, factor):
    probs = tf.nn.softmax(_f32(scores) * factor + mask)
    return tf.cast(_dropped(probs, keep, threshold, scale), scores.dtype), tf.cast(
        probs, scores.dtype
    )


@compiled_if_large
def _attention_probs_backward(probs, keep, threshold, scale, factor, upstream):
    probs = _f32(probs)
    dp = _dropped(_f32(upstream), keep, threshold, scale)
    ds = probs * (dp - tf.reduce_sum(dp * probs, axis=-1, keepdims=True))
    return tf.cast(ds * factor, upstream.dtype)


def attention_probs(
    scores: tf.Tensor, mask: tf.Tensor, *, factor: float, dropout: DropoutMask | None
) -> tf.Tensor:
    """dropout(softmax(factor * scores + mask)) over the last axis.

    Args:
        scores: [batch, heads, from, to] query-key products, or [batch, heads, blocks, from, to].
        mask: float32, broadcastable to `scores`: 0 where attention is allowed, -10000 elsewhere.
        factor: 1 / sqrt(head size).
        dropout: the mask over the shape of `scores`, or None.

    Returns:
        Attention probabilities, shape and type of `scores`.
    """
    keep, threshold, scale = (None, None, None) if dropout is None else dropout

    @tf.custom_gradient
    def apply(scores):
        dropped, probs = _attention_probs_forward(scores, mask, keep, threshold, scale, factor)
        return dropped, lambda upstream: _attention_probs_backward(
            probs, keep, threshold, scale, factor, upstream
        )

    return apply(scores)  # pyright: ignore[reportReturnType] # no stub
