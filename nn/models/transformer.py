"""Transformers: a small GPT that continues text, and an encoder and decoder that rewrite one sequence as another."""

from __future__ import annotations

import math

import autograd_core as ag
import nn

from .recurrent import draw


class GPT(nn.Module):
    """A language model without recurrence: every place looks back at those before it, all places at once.

    Vectors of characters plus vectors of places, ``layers`` blocks of causal self-attention and a small network (norms
    before each part), a last norm, and scores of the next character. ``context``: the longest text it can look at.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019 (GPT-2); Vaswani et al., 2017.
    """

    def __init__(self, vocabulary: int, context: int = 128, width: int = 128, heads: int = 4, layers: int = 2,
                 dropout: float = 0.0):  # fmt: skip
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(width))
        self.out = nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                closing = name.endswith(("linear2.weight", "out_proj.weight"))  # what is added to the running sum
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if closing else 0.02)
        self.register_buffer("order", ag.arange(context), persistent=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context), persistent=False)

    def forward(self, tokens):
        """Scores (N, T, vocabulary) of the characters that follow tokens (N, T), T up to the context."""
        count = tokens.shape[1]
        if count > self.context:
            raise ValueError(f"GPT: got {count} characters, needs at most the context, {self.context}")
        x = self.embedding(tokens) + self.places(self.order[:count])
        return self.out(self.blocks(x, mask=self.mask[:count, :count], is_causal=True))

    def generate(self, prompt, count: int, temperature: float = 1.0, generator=None):
        """Draw ``count`` characters after ``prompt`` (T,), one by one; returns them (count,)."""
        text = prompt.unsqueeze(0)
        with ag.no_grad():
            for _ in range(count):
                scores = self(text[:, -self.context :])
                text = ag.cat([text, draw(scores[:, -1] / temperature, generator)], 1)
        return text[0, -count:]


class Seq2Seq(nn.Module):
    """An encoder that reads one sequence of characters and a decoder that writes another, with attention between.

    Number 0 is padding in both alphabets. ``longest``: the most characters in either sequence.

    Source: Vaswani et al., "Attention is all you need", 2017, with norms before each part.
    """

    PAD = 0

    def __init__(self, inputs: int, outputs: int, longest: int = 32, width: int = 64, heads: int = 4, layers: int = 2,
                 dropout: float = 0.0):  # fmt: skip
        super().__init__()
        self.longest = longest
        self.source = nn.Embedding(inputs, width)
        self.target = nn.Embedding(outputs, width)
        self.places = nn.Embedding(longest, width)
        self.transformer = nn.Transformer(width, heads, layers, layers, 4 * width, dropout, batch_first=True,
                                          norm_first=True)  # fmt: skip
        self.out = nn.Linear(width, outputs)
        for table in (self.source, self.target, self.places):
            nn.init.normal_(table.weight, std=1 / math.sqrt(width))
        self.register_buffer("order", ag.arange(longest), persistent=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(longest), persistent=False)

    def _with_places(self, table, tokens):
        return table(tokens) + self.places(self.order[: tokens.shape[1]])

    def encode(self, source):
        """What the encoder makes of sources (N, S): (N, S, width), and where padding is, (N, S)."""
        padding = source == self.PAD
        encoder = self.transformer.encoder
        memory = encoder(self._with_places(self.source, source), src_key_padding_mask=padding, is_causal=False)
        return memory, padding

    def decode(self, target, memory, padding):
        """Scores (N, T, outputs) of what follows each character of targets (N, T), given the encoder's result."""
        count = target.shape[1]
        out = self.transformer.decoder(self._with_places(self.target, target), memory,
                                       tgt_mask=self.mask[:count, :count], tgt_is_causal=True,
                                       memory_key_padding_mask=padding)  # fmt: skip
        return self.out(out)

    def forward(self, source, target):
        """Scores (N, T, outputs) of what follows each character of targets (N, T), for sources (N, S)."""
        return self.decode(target, *self.encode(source))

    def rewrite(self, source, start: int, count: int):
        """Write ``count`` characters for each source (N, S), always the likeliest one; returns them (N, count)."""
        with ag.no_grad():
            encoded = self.encode(source)
            written = ag.full((len(source), 1), start, dtype=ag.int64)
            for _ in range(count):
                following = self.decode(written, *encoded)[:, -1].argmax(1, keepdim=True)
                written = ag.cat([written, following], 1)
        return written[:, 1:]

    def attention(self, source, target):
        """What each written place looks at: weights (N, heads, T, S) between decoder and encoder, one for each layer.

        The layers' inputs are caught by hooks and attended once more, this time with the weights returned.
        """
        maps = []

        def catch(module, args, kwargs):
            kwargs = kwargs | {"need_weights": True, "average_attn_weights": False}
            maps.append(nn.MultiheadAttention.forward(module, *args, **kwargs)[1])

        handles = [layer.multihead_attn.register_forward_pre_hook(catch, with_kwargs=True)
                   for layer in self.transformer.decoder.layers]  # fmt: skip
        try:
            with ag.no_grad():
                self(source, target)
        finally:
            for handle in handles:
                handle.remove()
        return maps
