"""Attention: the scaled dot product, and many heads of it between linear maps."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..registry import Kernel, composite, network, op
from ..shapes import numpy_dtype
from .samples import boolean, real, sample
from .second_order import gradient_of

# ---------------------------------------------------------------------------------------------------- one product


def _causal(rows, columns):
    """True where a row may look: at its own column and those before."""
    return np.tri(rows, columns, dtype=bool)


def _attend(query, key, value, mask, *, scale, causal, dropout_p=0.0):
    """What `attention` computes, in the op language, with dropout of the weights."""
    scores = (query * scale) @ ops.transpose(key, -2, -1)
    if causal:
        scores = ops.where(_causal(query.shape[-2], key.shape[-2]), scores, -math.inf)
    if mask is None:
        weights = ops.softmax(scores, -1)
    else:
        boolean_mask = numpy_dtype(mask.dtype).kind == "b"
        scores = ops.where(mask, scores, -math.inf) if boolean_mask else scores + mask
        blind = ops.amax(scores, -1, True) == -math.inf  # rows that may look at nothing give zeros, not NaN
        weights = ops.where(blind, 0.0, ops.softmax(ops.where(blind, 0.0, scores), -1))
    return (ops.dropout(weights, dropout_p) if dropout_p else weights) @ value


HEADS = [sample(real(2, 3, 4), real(2, 5, 4), real(2, 5, 3), None, scale=0.5, causal=False),
         sample(real(2, 2, 3, 4), real(2, 2, 3, 4), real(2, 2, 3, 3), real(3, 3), scale=0.5, causal=False),
         sample(real(1, 3, 4), real(1, 3, 4), real(1, 3, 4), boolean(3, 3), scale=1.0, causal=True)]  # fmt: skip


def _scores(query, key, mask, scale, causal):
    """scale * query key^T + mask, -inf where not to be looked at."""
    scores = np.matmul(query * scale, key.swapaxes(-1, -2))
    if causal:
        scores = np.where(_causal(query.shape[-2], key.shape[-2]), scores, scores.dtype.type(-np.inf))
    if mask is not None:
        scores = np.where(mask, scores, scores.dtype.type(-np.inf)) if mask.dtype == bool else scores + mask
    return scores


@op(network, namespace="internal", hidden=("lse",), samples=HEADS, kernel=Kernel("attention:attention", above=2048),
    vjp=lambda g, query, key, value, mask, out, lse, scale, causal, needs: ops.attention_backward(
        query, key, value, mask, out, lse, g, scale=scale, causal=causal, needs=needs))  # fmt: skip
def attention(query, key, value, mask, *, scale, causal):
    """softmax(scale * query key^T + mask) value, in one operation.

    ``mask``: None, booleans (True may look) or numbers to add. ``causal`` hides later columns. Rows that may look at
    nothing give zeros.
    """
    scores = _scores(query, key, mask, scale, causal)
    top = np.max(scores, -1, keepdims=True, initial=-np.inf)
    top = np.where(top == -np.inf, scores.dtype.type(0), top)
    weights = np.exp(scores - top)
    total = np.sum(weights, -1, keepdims=True)
    total = np.where(total == 0, scores.dtype.type(1), total)
    weights /= total
    return np.matmul(weights, value), top + np.log(total)


def _attention_gradient(query, key, value, mask, out, lse, g, *, scale, causal, needs):
    return gradient_of(
        lambda q, k, v, m: _attend(q, k, v, m, scale=scale, causal=causal), (g,), (query, key, value, mask), needs
    )


@op(network, namespace="internal", vjp=(), composite=_attention_gradient, samples=[
    sample(real(2, 3, 4), real(2, 5, 4), real(2, 5, 3), None, real(2, 3, 3), real(2, 3, 1), real(2, 3, 3), scale=0.5,
           causal=False, needs=(True, True, True, False))],
    kernel=Kernel("attention:attention_backward", above=2048))  # fmt: skip
def attention_backward(query, key, value, mask, out, lse, g, *, scale, causal, needs):
    """The gradients of `attention` in query, key, value and an additive mask; the weights are computed anew.

    ``lse``: the logarithm of the sum of exponentials of each row.
    """
    weights = np.exp(_scores(query, key, mask, scale, causal) - lse)
    d_value = np.matmul(weights.swapaxes(-1, -2), g) if needs[2] else None
    d_scores = np.matmul(g, value.swapaxes(-1, -2))
    d_scores -= np.sum(g * out, -1, keepdims=True)
    d_scores *= weights
    d_query = np.matmul(d_scores, key) * scale if needs[0] else None
    d_key = np.matmul(d_scores.swapaxes(-1, -2), query * scale) if needs[1] else None
    return d_query, d_key, d_value, d_scores if needs[3] else None


@op(
    composite,
    namespace="nn.functional",
    samples=[
        sample(real(2, 3, 4), real(2, 5, 4), real(2, 5, 3)),
        sample(real(2, 2, 3, 4), real(2, 2, 3, 4), real(2, 2, 3, 4), real(3, 3)),
        sample(real(1, 4, 3, 4), real(1, 2, 3, 4), real(1, 2, 3, 4), is_causal=True, enable_gqa=True, scale=1.0),
    ],
)
def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
                                 enable_gqa=False):  # fmt: skip
    """softmax(scale * query key^T + mask) value for query (..., L, E), key (..., S, E) and value (..., S, V).

    ``attn_mask``: booleans (True may be looked at) or numbers to add, broadcast to (..., L, S). ``is_causal`` hides
    column j from row i < j. ``scale``: 1 / sqrt(E) by default. ``dropout_p`` drops weights, always. ``enable_gqa``
    shares each key and value head (dim -3) among several heads of query. Rows that may look at nothing give zeros.
    """
    name = "scaled_dot_product_attention"
    for label, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim < 2:
            raise RuntimeError(f"{name}: {label} must have at least 2 dims, got shape {list(tensor.shape)}")
        if tensor.dtype != query.dtype:
            raise RuntimeError(
                f"{name}: query, key and value must have the same dtype, got {query.dtype} and {tensor.dtype}"
            )
    if is_causal and attn_mask is not None:
        raise RuntimeError(f"{name}: give attn_mask or is_causal=True, not both")
    if attn_mask is not None and numpy_dtype(attn_mask.dtype).kind != "b" and attn_mask.dtype != query.dtype:
        if attn_mask.dtype != np.float32:
            raise RuntimeError(f"{name}: attn_mask must be bool or float32 or have the dtype of query, {query.dtype}, "
                               f"got {attn_mask.dtype}")  # fmt: skip
        attn_mask = ops.to(attn_mask, dtype=numpy_dtype(query.dtype))
    if enable_gqa:
        key, value = [_shared(name, query, tensor) for tensor in (key, value)]
    scale = 1 / math.sqrt(query.shape[-1] or 1) if scale is None else scale
    if dropout_p:
        return _attend(query, key, value, attn_mask, scale=scale, causal=bool(is_causal), dropout_p=dropout_p)
    return ops.attention(query, key, value, attn_mask, scale=scale, causal=bool(is_causal))


def _shared(name, query, tensor):
    """Each head repeated for the heads of query that share it."""
    if tensor.ndim < 3 or query.ndim < 3 or query.shape[-3] % tensor.shape[-3]:
        raise RuntimeError(
            f"{name}: with enable_gqa the heads of query must be a multiple of those of key and value, got shapes "
            f"{list(query.shape)} and {list(tensor.shape)}"
        )
    each = query.shape[-3] // tensor.shape[-3]
    return tensor if each == 1 else ops.repeat_interleave(tensor, each, -3)


# ---------------------------------------------------------------------------------------------------- many heads


def _additive(name, mask, dtype, rows):
    """A mask as numbers to add, where booleans hide where True; ``rows`` keys that are not hidden stand behind."""
    if mask is None:
        return None
    kind = numpy_dtype(mask.dtype).kind
    if kind not in "bf":
        raise RuntimeError(f"multi_head_attention_forward: {name} must be bool or floating-point, got {mask.dtype}")
    if kind == "b":
        mask = ops.where(mask, np.array(-np.inf, dtype), np.array(0, dtype))
    return ops.pad(mask, (0, rows)) if rows else mask


def _check_heads(query, key, value, key_padding_mask, attn_mask, num_heads):
    """Whether there is a batch dim; raises where the shapes do not match."""
    name, batched = "multi_head_attention_forward", query.ndim == 3
    if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
        raise RuntimeError(
            f"{name}: query, key and value must all have 2 or all 3 dims, got shapes {list(query.shape)}, "
            f"{list(key.shape)}, {list(value.shape)}"
        )
    if key_padding_mask is not None and key_padding_mask.ndim != query.ndim - 1:
        raise RuntimeError(
            f"{name}: key_padding_mask must have {query.ndim - 1} dims, got {list(key_padding_mask.shape)}"
        )
    if attn_mask is None:
        return batched
    batch = query.shape[1] if batched else 1
    wanted = [[query.shape[0], key.shape[0]], [batch * num_heads, query.shape[0], key.shape[0]]]
    if list(attn_mask.shape) not in wanted:
        raise RuntimeError(f"{name}: attn_mask must have shape {wanted[0]} or {wanted[1]}, got {list(attn_mask.shape)}")
    return batched


def _projected(query, key, value, packed, separate, bias):
    """Query, key and value through their linear maps; one product where all three are the same tensor."""
    if any(w is None for w in (separate or (packed,))):
        raise RuntimeError("multi_head_attention_forward: a projection weight is missing "
                           f"(use_separate_proj_weight={separate is not None})")  # fmt: skip
    if separate is None and query is key is value:
        return ops.chunk(ops.linear(query, packed, bias), 3, -1)
    weights = separate or ops.chunk(packed, 3)
    biases = (None,) * 3 if bias is None else ops.chunk(bias, 3)
    return [ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]


def _merged(attn_mask, padding_mask, batch, heads):
    """Both masks as one of shape (batch or 1, heads or 1, L or 1, S)."""
    if attn_mask is not None:
        each = attn_mask.ndim == 3
        attn_mask = ops.reshape(attn_mask, (*((batch, heads) if each else (1, 1)), *attn_mask.shape[-2:]))
    if padding_mask is None:
        return attn_mask
    padding_mask = ops.reshape(padding_mask, (batch, 1, 1, padding_mask.shape[-1]))
    return padding_mask if attn_mask is None else attn_mask + padding_mask


def _weighed(q, k, v, mask, dropout_p):
    """(output, weights) of attention, both wanted."""
    scores = (q * (1 / math.sqrt(q.shape[-1]))) @ ops.transpose(k, -2, -1)
    weights = ops.softmax(scores if mask is None else scores + mask, -1)
    weights = ops.dropout(weights, dropout_p) if dropout_p else weights
    return weights @ v, weights


MHA = (
    real(3, 2, 4),
    real(5, 2, 4),
    real(5, 2, 4),
    4,
    2,
    real(12, 4),
    real(12),
    None,
    None,
    False,
    0.0,
    real(4, 4),
    real(4),
)


@op(composite, namespace="nn.functional", samples=[
    sample(*MHA), sample(*MHA, attn_mask=real(3, 5), key_padding_mask=real(2, 5), need_weights=False),
    sample(*MHA[:7], real(1, 1, 4), real(1, 1, 4), True, *MHA[10:], average_attn_weights=False)])  # fmt: skip
def multi_head_attention_forward(
    query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn,
    dropout_p, out_proj_weight, out_proj_bias, training=True, key_padding_mask=None, need_weights=True, attn_mask=None,
    use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None, static_k=None,
    static_v=None, average_attn_weights=True, is_causal=False,
):  # fmt: skip
    """Attention of several heads, between linear maps.

    Query (L, N, E), key and value (S, N, E) are mapped, split into heads, attended to by head, joined and mapped
    again. Returns the output (L, N, E) and, with ``need_weights``, the weights (N, L, S), the mean over heads or
    each. Masks hide where True (or add numbers): ``key_padding_mask`` (N, S), ``attn_mask`` (L, S) or (N * heads, L,
    S). Without batch dim as well.
    """
    batched = _check_heads(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        same = query is key is value
        query, key, value = (
            [ops.unsqueeze(query, 1)] * 3 if same else [ops.unsqueeze(t, 1) for t in (query, key, value)]
        )
        key_padding_mask = None if key_padding_mask is None else ops.unsqueeze(key_padding_mask, 0)
    _check_settings(query.shape[2], embed_dim_to_check, num_heads, is_causal and attn_mask is None, bias_k, bias_v)
    length, batch, width = query.shape
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _projected(query, key, value, in_proj_weight, separate, in_proj_bias)

    def heads(tensor):  # (S, N, E) -> (N, heads, S, E / heads)
        return ops.permute(ops.reshape(tensor, (tensor.shape[0], batch, num_heads, width // num_heads)), (1, 2, 0, 3))

    if bias_k is not None:
        k, v = [ops.cat([t, ops.expand(b, (1, batch, width))]) for t, b in ((k, bias_k), (v, bias_v))]
    q, k, v = heads(q), _static(static_k, heads(k)), _static(static_v, heads(v))
    dtype = numpy_dtype(query.dtype)
    if add_zero_attn:
        k, v = [ops.cat([t, np.zeros((batch, num_heads, 1, width // num_heads), dtype)], 2) for t in (k, v)]
    rows = (bias_k is not None) + bool(add_zero_attn)  # which no mask hides
    mask = _merged(_additive("attn_mask", attn_mask, dtype, rows),
                   _additive("key_padding_mask", key_padding_mask, dtype, rows), batch, num_heads)  # fmt: skip
    dropout_p, weights = dropout_p if training else 0.0, None
    if need_weights:
        out, weights = _weighed(q, k, v, mask, dropout_p)
        weights = ops.mean(weights, 1) if average_attn_weights else weights
    else:
        out = ops.scaled_dot_product_attention(q, k, v, mask, dropout_p)
    out = ops.reshape(ops.permute(out, (2, 0, 1, 3)), (length, batch, width))
    out = ops.linear(out, out_proj_weight, out_proj_bias)
    if batched:
        return out, weights
    return ops.squeeze(out, 1), None if weights is None else ops.squeeze(weights, 0)


def _check_settings(width, expected, num_heads, causal_alone, bias_k, bias_v):
    """Refuse settings that do not fit together; ``causal_alone``: is_causal without a mask."""
    name = "multi_head_attention_forward"
    if width != expected or width % num_heads:
        raise RuntimeError(
            f"{name}: query must have embedding size {expected}, a multiple of num_heads={num_heads}, got {width}"
        )
    if causal_alone:
        raise RuntimeError(f"{name}: is_causal=True needs attn_mask")
    if (bias_k is None) != (bias_v is None):
        raise RuntimeError(f"{name}: bias_k and bias_v must be given together")


def _static(static, computed):
    """A given key or value (N * heads, S, E / heads) in place of the computed one."""
    if static is None:
        return computed
    batch, heads, _, size = computed.shape
    if static.shape[0] != batch * heads or static.shape[2] != size:
        raise RuntimeError(
            f"multi_head_attention_forward: static key or value must have shape [{batch * heads}, S, {size}], "
            f"got {list(static.shape)}"
        )
    return ops.reshape(static, (batch, heads, static.shape[1], size))
