"""Embeddings: rows of a table, looked up by number."""

from __future__ import annotations

from autograd_core import Tensor
from autograd_core.modes import no_grad

from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter, new_parameter


class _Table(Module):
    """What both embeddings share: the table, and its row of zeros at ``padding_idx``."""

    def _make_table(self, num_embeddings, embedding_dim, padding_idx, weight, freeze, device, dtype):
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise AssertionError(f"{type(self).__name__}: padding_idx must be within "
                                     f"num_embeddings={num_embeddings}, got {padding_idx}")  # fmt: skip
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        if weight is None:
            self.weight = new_parameter(num_embeddings, embedding_dim, device=device,
                                        dtype=dtype).requires_grad_(not freeze)  # fmt: skip
            self.reset_parameters()
            return
        if list(weight.shape) != [num_embeddings, embedding_dim]:
            raise AssertionError(f"weight must have shape [{num_embeddings}, {embedding_dim}], got "
                                 f"{list(weight.shape)}")  # fmt: skip
        self.weight = Parameter(weight, requires_grad=not freeze)

    def reset_parameters(self):
        """Draw new values from the standard normal distribution; zeros in the padding row."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0

    def _check_sparse(self):
        if self.sparse:
            raise NotImplementedError(f"{type(self).__name__}: sparse gradients are not supported; leave sparse=False")

    @classmethod
    def from_pretrained(cls, embeddings, freeze=True, padding_idx=None, max_norm=None, norm_type=2.0,
                        scale_grad_by_freq=False, *args, **kwargs):  # fmt: skip
        """An embedding with the given table; ``freeze`` (default): one that is not trained."""
        if not isinstance(embeddings, Tensor) or embeddings.ndim != 2:
            raise AssertionError("Embeddings parameter is expected to be 2-dimensional")
        return cls._from_table(embeddings, freeze, padding_idx, max_norm, norm_type, scale_grad_by_freq, *args,
                               **kwargs)  # fmt: skip


class Embedding(_Table):
    """A table of ``num_embeddings`` vectors, looked up by number: integers (*) to vectors (*, embedding_dim).

    The vector at ``padding_idx`` starts at zero and gets no gradient; vectors longer than ``max_norm`` (by
    ``norm_type``) are shortened when looked up; ``scale_grad_by_freq`` divides gradients by how often a number occurs.
    """

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None, max_norm=None, norm_type=2.0,
                 scale_grad_by_freq=False, sparse=False, _weight=None, _freeze=False, device=None,
                 dtype=None):  # fmt: skip
        super().__init__()
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self._check_sparse()
        self._make_table(num_embeddings, embedding_dim, padding_idx, _weight, _freeze, device, dtype)

    def forward(self, input):
        """Look up."""
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
                           self.scale_grad_by_freq)  # fmt: skip

    @classmethod
    def _from_table(cls, table, freeze, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse=False):
        return cls(*table.shape, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, table, freeze)

    def extra_repr(self):
        """The sizes, and what is not as by default."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        usual = {"padding_idx": None, "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False}
        return text + "".join([f", {k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k) != v])


class EmbeddingBag(_Table):
    """Sums, means (default) or maxima of the vectors of bags of numbers, without keeping the single vectors.

    Bags are the rows of a matrix, or parts of a vector that begin at ``offsets``.
    """

    def __init__(self, num_embeddings, embedding_dim, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
                 mode="mean", sparse=False, _weight=None, include_last_offset=False, padding_idx=None, device=None,
                 dtype=None):  # fmt: skip
        super().__init__()
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.mode, self.sparse, self.include_last_offset = mode, sparse, include_last_offset
        self._check_sparse()
        self._make_table(num_embeddings, embedding_dim, padding_idx, _weight, False, device, dtype)

    def forward(self, input, offsets=None, per_sample_weights=None):
        """Look up and combine; ``per_sample_weights`` multiply the vectors (mode "sum")."""
        return F.embedding_bag(input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq,
                               self.mode, self.sparse, per_sample_weights, self.include_last_offset,
                               self.padding_idx)  # fmt: skip

    @classmethod
    def _from_table(cls, table, freeze, padding_idx, max_norm, norm_type, scale_grad_by_freq, mode="mean", sparse=False,
                    include_last_offset=False):  # fmt: skip
        made = cls(*table.shape, max_norm, norm_type, scale_grad_by_freq, mode, sparse, table, include_last_offset,
                   padding_idx)  # fmt: skip
        made.weight.requires_grad_(not freeze)
        return made

    @classmethod
    def from_pretrained(cls, embeddings, freeze=True, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
                        mode="mean", sparse=False, include_last_offset=False, padding_idx=None):  # fmt: skip
        """An embedding with the given table; ``freeze`` (default): one that is not trained."""
        return super().from_pretrained(embeddings, freeze, padding_idx, max_norm, norm_type, scale_grad_by_freq, mode,
                                       sparse, include_last_offset)  # fmt: skip

    def extra_repr(self):
        """The sizes, and what is not as by default."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        usual = {"max_norm": None, "norm_type": 2, "scale_grad_by_freq": False, "mode": None, "padding_idx": None}
        return text + "".join([f", {k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k) != v])
