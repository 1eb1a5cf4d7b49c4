"""Losses: how far outputs are from targets, as modules. ``reduction``: "mean" (default), "sum" or "none"."""

from __future__ import annotations

from collections import namedtuple

import autograd_core as ag

from . import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module
from .wrapper import Wrapper, legacy_reduction

_OLD = {"size_average": None, "reduce": None}
_REDUCTION = {**_OLD, "reduction": "mean"}


class _Loss(Wrapper, shown=""):
    """A loss; ``size_average`` and ``reduce`` are older ways of saying ``reduction``. Tensor settings are buffers."""

    def __init__(self, *args, **kwargs):
        Module.__init__(self)
        given = self._bind(args, kwargs)
        size_average, reduce = given.pop("size_average", None), given.pop("reduce", None)
        if size_average is not None or reduce is not None:
            given["reduction"] = legacy_reduction(size_average, reduce)
        for name in ("weight", "pos_weight"):
            if name in given:
                self.register_buffer(name, given.pop(name))
        if isinstance(given.get("delta"), complex):
            raise TypeError(f"delta must be a float or int, got: {type(given['delta'])}")
        self.__dict__.update(given)

    def forward(self, input, target):
        """Call the function with the settings."""
        return self._call(input, target)

    def _call(self, *tensors):
        settings = {name: getattr(self, name) for name in self._settings if name not in _OLD}
        return getattr(F, self._function)(*tensors, **settings)


class L1Loss(_Loss, function="l1_loss", **_REDUCTION):
    """|x − y|."""


class MSELoss(_Loss, function="mse_loss", **_REDUCTION):
    """(x − y)²."""


class SmoothL1Loss(_Loss, function="smooth_l1_loss", **_REDUCTION, beta=1.0):
    """(x − y)² / (2·beta) where |x − y| < beta, else |x − y| − beta/2."""


class HuberLoss(_Loss, function="huber_loss", reduction="mean", delta=1.0):
    """(x − y)² / 2 where |x − y| < delta, else delta·(|x − y| − delta/2)."""


class CrossEntropyLoss(_Loss, function="cross_entropy", weight=None, size_average=None, ignore_index=-100, reduce=None,
                       reduction="mean", label_smoothing=0.0):  # fmt: skip
    """−log softmax(x) at the target's class, for scores (N, C, *).

    Targets are class indices (N, *) or class probabilities (N, C, *). ``weight``: one factor a class; targets equal
    to ``ignore_index`` do not count; ``label_smoothing`` mixes the target with the even distribution.
    """


class NLLLoss(_Loss, function="nll_loss", weight=None, size_average=None, ignore_index=-100, reduce=None,
              reduction="mean"):  # fmt: skip
    """−x at the target's class, for log probabilities (N, C, *) and class indices (N, *)."""


class NLLLoss2d(NLLLoss):
    """The older name of `NLLLoss` for images."""


class BCELoss(_Loss, function="binary_cross_entropy", weight=None, **_REDUCTION):
    """−y·log x − (1 − y)·log(1 − x), for probabilities x."""


class BCEWithLogitsLoss(_Loss, function="binary_cross_entropy_with_logits", weight=None, **_REDUCTION, pos_weight=None):
    """`BCELoss` of sigmoid(x), without overflow; ``pos_weight`` multiplies the term of the positive class."""


class PoissonNLLLoss(_Loss, function="poisson_nll_loss", log_input=True, full=False, size_average=None, eps=1e-8,
                     reduce=None, reduction="mean"):  # fmt: skip
    """exp(x) − y·x, the Poisson negative log likelihood of counts y with log rate x (or rate, ``log_input=False``)."""

    def forward(self, log_input, target):
        """The loss; ``full`` adds Stirling's approximation of log y!."""
        return self._call(log_input, target)


class GaussianNLLLoss(_Loss, function="gaussian_nll_loss", keyword_only=True, full=False, eps=1e-6, reduction="mean"):
    """(log var + (x − y)² / var) / 2, the Gaussian negative log likelihood with a variance for every output."""

    def forward(self, input, target, var):
        """The loss; ``full`` adds log(2π)/2."""
        return self._call(input, target, var)


class KLDivLoss(_Loss, function="kl_div", **_REDUCTION, log_target=False):
    """y·(log y − x), the Kullback-Leibler divergence for log probabilities x; also ``reduction="batchmean"``."""


class MarginRankingLoss(_Loss, function="margin_ranking_loss", margin=0.0, **_REDUCTION):
    """max(0, −y·(x₁ − x₂) + margin), for y of 1 (x₁ should be larger) or −1."""

    def forward(self, input1, input2, target):
        """Compare two scores."""
        return self._call(input1, input2, target)


class HingeEmbeddingLoss(_Loss, function="hinge_embedding_loss", margin=1.0, **_REDUCTION):
    """x where y is 1, max(0, margin − x) where it is −1."""


class CosineEmbeddingLoss(_Loss, function="cosine_embedding_loss", margin=0.0, **_REDUCTION):
    """1 − cos(x₁, x₂) where y is 1, max(0, cos(x₁, x₂) − margin) where it is −1."""

    def forward(self, input1, input2, target):
        """Compare two vectors."""
        return self._call(input1, input2, target)


class TripletMarginLoss(_Loss, function="triplet_margin_loss", margin=1.0, p=2.0, eps=1e-6, swap=False, **_REDUCTION):
    """max(0, d(anchor, positive) − d(anchor, negative) + margin) with the p-norm distance (Balntas et al., 2016)."""

    def forward(self, anchor, positive, negative):
        """Compare the distances."""
        return self._call(anchor, positive, negative)


class TripletMarginWithDistanceLoss(_Loss, function="triplet_margin_with_distance_loss", keyword_only=True,
                                    distance_function=None, margin=1.0, swap=False, reduction="mean"):  # fmt: skip
    """`TripletMarginLoss` with a distance of the user's own (default: `PairwiseDistance`)."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.margin <= 0:
            raise ValueError(f"TripletMarginWithDistanceLoss: expected margin to be greater than 0, got {self.margin} "
                             "instead")  # fmt: skip
        if self.distance_function is None:
            self.distance_function = F.pairwise_distance

    def forward(self, anchor, positive, negative):
        """Compare the distances."""
        return self._call(anchor, positive, negative)


class MultiMarginLoss(_Loss, function="multi_margin_loss", p=1, margin=1.0, weight=None, **_REDUCTION):
    """Σ max(0, margin − x[y] + x[i])ᵖ over the classes i ≠ y, divided by their number."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.p not in (1, 2):
            raise ValueError("only p == 1 and p == 2 supported")
        if self.weight is not None and self.weight.ndim != 1:
            raise ValueError(f"MultiMarginLoss: expected weight to be None or 1D tensor, got {self.weight.ndim}D "
                             "instead")  # fmt: skip


class MultiLabelMarginLoss(_Loss, function="multilabel_margin_loss", **_REDUCTION):
    """Σ max(0, 1 − x[y] + x[i]) over the labels y and the other classes i; labels end at the first −1."""


class MultiLabelSoftMarginLoss(_Loss, function="multilabel_soft_margin_loss", weight=None, **_REDUCTION):
    """Mean of the binary cross-entropies of sigmoid(x) over the classes."""


class SoftMarginLoss(_Loss, function="soft_margin_loss", **_REDUCTION):
    """log(1 + exp(−y·x)), for y of 1 or −1."""


class CTCLoss(_Loss, function="ctc_loss", blank=0, reduction="mean", zero_infinity=False):
    """−log probability of a label sequence, summed over its alignments (Graves et al., 2006)."""

    def forward(self, log_probs, targets, input_lengths, target_lengths):
        """Log probabilities (T, N, C); targets (N, S) or concatenated; the lengths of both."""
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction,
                          self.zero_infinity)  # fmt: skip


AdaptiveResult = namedtuple("AdaptiveResult", "output loss")


class AdaptiveLogSoftmaxWithLoss(Module):
    """Softmax over very many classes, the rare ones through a smaller projection (Grave et al., 2017).

    Classes are sorted by falling frequency. Those below ``cutoffs[0]`` are scored directly; each further range
    between cutoffs is a cluster whose vectors are ``div_value`` times shorter than those of the cluster before.
    """

    def __init__(self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False, device=None, dtype=None):
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (cutoffs != sorted(set(cutoffs)) or min(cutoffs) <= 0 or max(cutoffs) > n_classes - 1
                or any(int(c) != c for c in cutoffs)):  # fmt: skip
            raise ValueError(f"cutoffs must be increasing ints from 1 to n_classes - 1 = {n_classes - 1}, got "
                             f"{cutoffs}")  # fmt: skip
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        kind = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **kind)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            hidden = int(in_features // div_value ** (i + 1))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            narrow, wide = Linear(in_features, hidden, bias=False, **kind), Linear(hidden, size, bias=False, **kind)
            self.tail.append(Sequential(narrow, wide))

    def reset_parameters(self):
        """Draw new values."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(self, input, target):
        """The log probability of each target, as ``output``, and the mean of their negatives, as ``loss``."""
        if input.ndim != target.ndim + 1 or input.ndim not in (1, 2):
            raise RuntimeError(f"AdaptiveLogSoftmaxWithLoss: input must have shape (N, {self.in_features}) with target "
                               f"(N,), or no N, got {list(input.shape)} and {list(target.shape)}")  # fmt: skip
        if input.ndim == 2 and input.shape[0] != target.shape[0]:
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if target.ndim == 0:
            output = self(input.unsqueeze(0), target.unsqueeze(0)).output.squeeze(0)
            return AdaptiveResult(output, -output)
        labels = target.numpy(force=True)
        if labels.size and (labels.min() < 0 or labels.max() >= self.n_classes):
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], "
                               f"but values in range [{labels.min()}, {labels.max()}] were found. ")  # fmt: skip
        head = F.log_softmax(self.head(input), 1)
        column = ag.where(target < self.shortlist_size, target, 0)
        output = head.gather(1, column.unsqueeze(1)).squeeze(1)
        for i, cluster in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            rows = ag.tensor(((labels >= low) & (labels < high)).nonzero()[0])
            if len(rows):
                inside = F.log_softmax(cluster(input.index_select(0, rows)), 1)
                found = inside.gather(1, (target.index_select(0, rows) - low).unsqueeze(1)).squeeze(1)
                found = found + head.select(1, self.shortlist_size + i).index_select(0, rows)
                output = output.index_copy(0, rows, found)
        return AdaptiveResult(output, -output.mean())

    def log_prob(self, input):
        """Log probabilities (N, n_classes) of all classes."""
        return self._full_log_prob(input, F.log_softmax(self.head(input), 1))

    def _full_log_prob(self, input, head):
        parts = [head.narrow(1, 0, self.shortlist_size)]
        for i, cluster in enumerate(self.tail):
            parts.append(F.log_softmax(cluster(input), 1) + head.narrow(1, self.shortlist_size + i, 1))
        return ag.cat(parts, 1)

    def predict(self, input):
        """The most probable class of each sample."""
        return self.log_prob(input).argmax(1)
