"""The Transformer: encoder and decoder layers, stacks of them, and the whole (Vaswani et al., 2017)."""

from __future__ import annotations

import copy

import autograd_core as ag

from . import functional as F
from . import init
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm


def _square_mask(size, dtype=None):
    return ag.full((size, size), float("-inf"), dtype=dtype).triu(1)


def _is_causal(mask, hint, size):
    """Whether ``mask`` is the causal mask of ``size``; ``hint`` is believed."""
    if hint is not None or mask is None:
        return bool(hint)
    return tuple(mask.shape) == (size, size) and bool((mask == _square_mask(size, mask.dtype)).all())


class _Layer(Module):
    """What encoder and decoder layers share: attention and two linear maps, each with dropout, sum and norm."""

    def __init__(self, attentions, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
                 norm_first, bias, device, dtype):  # fmt: skip
        super().__init__()
        kind = {"device": device, "dtype": dtype}
        for name in attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first,
                                                   **kind))  # fmt: skip
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **kind)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **kind)
        self.norm_first = norm_first
        blocks = range(1, len(attentions) + 2)
        for i in blocks:
            setattr(self, f"norm{i}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **kind))
        for i in blocks:
            setattr(self, f"dropout{i}", Dropout(dropout))
        if isinstance(activation, str):
            if activation not in ("relu", "gelu"):
                raise RuntimeError(f"activation should be relu/gelu, not {activation}")
            activation = getattr(F, activation)
        self.activation = activation

    def _blocks(self, x, *blocks):
        """Add each block's result to ``x``, with the norm before the block or after the sum."""
        for i, block in enumerate(blocks, 1):
            norm = getattr(self, f"norm{i}")
            x = x + block(norm(x)) if self.norm_first else norm(x + block(x))
        return x

    @staticmethod
    def _attend(attention, dropout, x, memory, mask, padding, is_causal):
        memory = x if memory is None else memory
        return dropout(attention(x, memory, memory, attn_mask=mask, key_padding_mask=padding, need_weights=False,
                                 is_causal=is_causal)[0])  # fmt: skip

    def _feed_forward(self, dropout, x):
        return dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a network of two linear maps; around each a sum, dropout and a `LayerNorm`.

    ``activation``: "relu" (default), "gelu" or a function; ``norm_first`` normalises before each part, not after.
    """

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation=F.relu, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):  # fmt: skip
        super().__init__(["self_attn"], d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
                         batch_first, norm_first, bias, device, dtype)  # fmt: skip

    def forward(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        """(S, N, E) or (N, S, E) to the same shape; for the masks see `MultiheadAttention`."""
        return self._blocks(
            src,
            lambda x: self._attend(self.self_attn, self.dropout1, x, None, src_mask, src_key_padding_mask, is_causal),
            lambda x: self._feed_forward(self.dropout2, x),
        )


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output, then two linear maps; see `TransformerEncoderLayer`."""

    def __init__(self, d_model, nhead, dim_feedforward=2048, dropout=0.1, activation=F.relu, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):  # fmt: skip
        super().__init__(["self_attn", "multihead_attn"], d_model, nhead, dim_feedforward, dropout, activation,
                         layer_norm_eps, batch_first, norm_first, bias, device, dtype)  # fmt: skip

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                memory_key_padding_mask=None, tgt_is_causal=False, memory_is_causal=False):  # fmt: skip
        """(T, N, E) or (N, T, E) to the same shape, given the encoder's output; see `MultiheadAttention` for masks."""
        return self._blocks(
            tgt,
            lambda x: self._attend(self.self_attn, self.dropout1, x, None, tgt_mask, tgt_key_padding_mask,
                                   tgt_is_causal),
            lambda x: self._attend(self.multihead_attn, self.dropout2, x, memory, memory_mask, memory_key_padding_mask,
                                   memory_is_causal),
            lambda x: self._feed_forward(self.dropout3, x),
        )  # fmt: skip


class _Stack(Module):
    """``num_layers`` copies of a layer, one after the other, and a final norm."""

    def __init__(self, layer, num_layers, norm):
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _run(self, x, *args, **kwargs):
        for layer in self.layers:
            x = layer(x, *args, **kwargs)
        return x if self.norm is None else self.norm(x)

    def _length(self, x):
        return x.shape[1 if x.ndim == 3 and self.layers[0].self_attn.batch_first else 0]


class TransformerEncoder(_Stack):
    """``num_layers`` copies of an encoder layer; ``enable_nested_tensor`` and ``mask_check`` have no effect."""

    def __init__(self, encoder_layer, num_layers, norm=None, enable_nested_tensor=True, mask_check=True):
        super().__init__(encoder_layer, num_layers, norm)
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=None):
        """Pass ``src`` through the layers."""
        causal = _is_causal(mask, is_causal, self._length(src))
        return self._run(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=causal)


class TransformerDecoder(_Stack):
    """``num_layers`` copies of a decoder layer."""

    def __init__(self, decoder_layer, num_layers, norm=None):
        super().__init__(decoder_layer, num_layers, norm)

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                memory_key_padding_mask=None, tgt_is_causal=None, memory_is_causal=False):  # fmt: skip
        """Pass ``tgt`` through the layers."""
        return self._run(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
                         tgt_key_padding_mask=tgt_key_padding_mask, memory_key_padding_mask=memory_key_padding_mask,
                         tgt_is_causal=_is_causal(tgt_mask, tgt_is_causal, self._length(tgt)),
                         memory_is_causal=memory_is_causal)  # fmt: skip


class Transformer(Module):
    """An encoder and a decoder, each of some layers with a final norm; sources (S, N, E), targets (T, N, E).

    ``custom_encoder`` and ``custom_decoder`` take the places of the usual ones.
    """

    def __init__(self, d_model=512, nhead=8, num_encoder_layers=6, num_decoder_layers=6, dim_feedforward=2048,
                 dropout=0.1, activation=F.relu, custom_encoder=None, custom_decoder=None, layer_norm_eps=1e-5,
                 batch_first=False, norm_first=False, bias=True, device=None, dtype=None):  # fmt: skip
        super().__init__()
        settings = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
                    device, dtype)  # fmt: skip

        def stack(kind, layer, count):
            norm = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, device=device, dtype=dtype)
            return kind(layer(*settings), count, norm)

        self.encoder = stack(TransformerEncoder, TransformerEncoderLayer,
                             num_encoder_layers) if custom_encoder is None else custom_encoder  # fmt: skip
        self.decoder = stack(TransformerDecoder, TransformerDecoderLayer,
                             num_decoder_layers) if custom_decoder is None else custom_decoder  # fmt: skip
        self._reset_parameters()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def _reset_parameters(self):
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(self, src, tgt, src_mask=None, tgt_mask=None, memory_mask=None, src_key_padding_mask=None,
                tgt_key_padding_mask=None, memory_key_padding_mask=None, src_is_causal=None, tgt_is_causal=None,
                memory_is_causal=False):  # fmt: skip
        """Encode ``src``, then decode ``tgt`` with it; for the masks see `MultiheadAttention`."""
        batch_dim = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[batch_dim] != tgt.shape[batch_dim]:
            raise RuntimeError(f"the batch number of src and tgt must be equal, got {src.shape[batch_dim]} and "
                               f"{tgt.shape[batch_dim]}")  # fmt: skip
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise RuntimeError("the feature number of src and tgt must be equal to d_model, "
                               f"got {src.shape[-1]} and {tgt.shape[-1]} for d_model={self.d_model}")  # fmt: skip
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
                            tgt_key_padding_mask=tgt_key_padding_mask, memory_key_padding_mask=memory_key_padding_mask,
                            tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal)  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz, device=None, dtype=None):
        """The causal mask (sz, sz): 0 on and below the diagonal, −inf above, so that no place sees a later one."""
        return _square_mask(sz, dtype)
