"""Attention of several heads (Vaswani et al., 2017)."""

from __future__ import annotations

from . import functional as F
from . import init
from .linear import NonDynamicallyQuantizableLinear
from .module import Module
from .parameter import new_parameter


class MultiheadAttention(Module):
    """Attention in ``num_heads`` parts: softmax(Q·Kᵀ/√d)·V of linear maps of query, key and value.

    Query (L, N, E), key and value (S, N, kdim or vdim); with ``batch_first`` (N, L, E) and so on; N may be left out.
    ``add_bias_kv`` appends a learned key and value, ``add_zero_attn`` one of zeros.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None,
                 vdim=None, batch_first=False, device=None, dtype=None):  # fmt: skip
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                             f"num_heads={num_heads} instead")  # fmt: skip
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim == self.vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("MultiheadAttention: embed_dim must be divisible by num_heads, got "
                                 f"{embed_dim} and {num_heads}")  # fmt: skip
        kind = {"device": device, "dtype": dtype}
        joint = self._qkv_same_embed_dim
        for name, width in (("q_proj_weight", embed_dim), ("k_proj_weight", self.kdim), ("v_proj_weight", self.vdim)):
            self.register_parameter(name, None if joint else new_parameter(embed_dim, width, **kind))
        self.register_parameter("in_proj_weight", new_parameter(3 * embed_dim, embed_dim, **kind) if joint else None)
        self.register_parameter("in_proj_bias", new_parameter(3 * embed_dim, **kind) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, **kind)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, new_parameter(1, 1, embed_dim, **kind) if add_bias_kv else None)
        self._reset_parameters()

    def _reset_parameters(self):
        separate = ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
        for name in ["in_proj_weight"] if self._qkv_same_embed_dim else separate:
            init.xavier_uniform_(getattr(self, name))
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                average_attn_weights=True, is_causal=False):  # fmt: skip
        """The output, shaped as the query, and the weights (N, L, S).

        The weights are the mean over the heads, or those of each, (N, heads, L, S), or None.
        ``key_padding_mask`` (N, S) and ``attn_mask`` (L, S) or (N·heads, L, S) hide where they are True, or are added.
        ``is_causal`` says that ``attn_mask`` is the causal one.
        """
        swap = self.batch_first and query.ndim == 3
        if swap:
            swapped = {id(t): t.transpose(0, 1) for t in (query, key, value)}
            query, key, value = (swapped[id(t)] for t in (query, key, value))
        out, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k,
            self.bias_v, self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias,
            training=self.training, key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim, q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight, v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal)  # fmt: skip
        return (out.transpose(0, 1) if swap else out), weights
