"""Ready parametrisations: orthogonal, spectral norm, weight norm."""

from __future__ import annotations

import numpy as np

import autograd_core as ag
from autograd_core.modes import no_grad

from .. import functional as F
from ..conv import _ConvTranspose
from ..module import Module
from .parametrize import register_parametrization

MAPS = ("matrix_exp", "cayley", "householder")


def _eye(like, columns=None):
    return ag.eye(like.shape[-2], like.shape[-2] if columns is None else columns, dtype=like.dtype)


def _is_orthogonal(q):
    rows, columns = q.shape[-2:]
    eps = float(np.finfo(q.array.dtype).eps)
    return bool(ag.allclose(q.mT @ q, ag.eye(columns, dtype=q.dtype), atol=10 * rows * eps))


def _make_orthogonal(a):
    """The nearest kin of ``a`` with orthonormal columns: its Q factor with signs that make Q(Q) = Q."""
    q, r = np.linalg.qr(a.array)
    return ag.tensor(q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :])


def _householder_product(a, tau):
    """The product of the reflections I − τᵢ·vᵢ·vᵢᵀ (first columns), with vᵢ in column i of ``a`` below an implicit 1.

    By the compact form I − V·T·Vᵀ with T⁻¹ = diag(1/τ) + strictly upper part of VᵀV (Schreiber and Van Loan, 1989).
    """
    v = a + _eye(a, a.shape[-1])
    inverse = (v.mT @ v).triu(1) + ag.diag_embed(1 / tau)
    return _eye(a, a.shape[-1]) - v @ ag.linalg.solve(inverse, v[..., : a.shape[-1], :].mT)


class _Orthogonal(Module):
    """A matrix with orthonormal rows or columns, computed from an unrestricted one."""

    def __init__(self, orthogonal_map, use_trivialization):
        super().__init__()
        self.orthogonal_map = orthogonal_map
        self.use_trivialization = use_trivialization
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x):
        """The orthogonal matrix."""
        wide = x.shape[-2] < x.shape[-1]
        if wide:
            x = x.mT
        rows, columns = x.shape[-2:]
        if self.orthogonal_map == "householder":
            a = x.tril(-1)
            q = _householder_product(a, 2 / (1 + (a * a).sum(-2)))
            q = q * x.diagonal(dim1=-2, dim2=-1).detach().int().unsqueeze(-2)
        else:
            x = x.tril()
            if rows != columns:
                x = ag.cat([x, ag.zeros((*x.shape[:-2], rows, rows - columns), dtype=x.dtype)], -1)
            skew = x - x.mT
            if self.orthogonal_map == "matrix_exp":
                q = ag.matrix_exp(skew)
            else:
                q = ag.linalg.solve(_eye(skew) - 0.5 * skew, _eye(skew) + 0.5 * skew)
            q = q[..., :columns]
        if self.use_trivialization:
            q = self.base @ q
        return q.mT if wide else q

    @no_grad()
    def right_inverse(self, q):
        """The unrestricted matrix behind ``q``; with a base, ``q`` (made orthogonal) becomes the base."""
        wide = q.shape[-2] < q.shape[-1]
        tall = q.mT if wide else q
        rows, columns = tall.shape[-2:]
        if self.use_trivialization:
            if rows == columns:
                base = tall.clone() if _is_orthogonal(tall) else _make_orthogonal(tall)
            else:
                base = _make_orthogonal(ag.cat([tall, ag.randn(*tall.shape[:-2], rows, rows - columns,
                                                               dtype=tall.dtype)], -1))  # fmt: skip
            self.base = base
            return ag.tensor(np.broadcast_to(-np.eye(*q.shape[-2:], dtype=q.array.dtype), q.shape))
        if self.orthogonal_map != "householder":
            raise NotImplementedError("without a base, no matrix can be assigned through the map "
                                      f"{self.orthogonal_map!r}")  # fmt: skip
        raw, tau = np.linalg.qr(tall.array, mode="raw")
        found = np.ascontiguousarray(np.swapaxes(raw, -1, -2))
        diagonal = np.sign(np.diagonal(found, axis1=-2, axis2=-1))
        diagonal = np.where(tau == 0, -diagonal, diagonal)
        i = np.arange(columns)
        found[..., i, i] = diagonal
        found = ag.tensor(found.astype(q.array.dtype))
        return found.mT if wide else found


def orthogonal(module, name="weight", orthogonal_map=None, *, use_trivialization=True):
    """Keep the rows or columns of a matrix parameter orthonormal; returns ``module``.

    ``orthogonal_map``: "matrix_exp" (default for square matrices), "cayley" or "householder" (default for others).
    ``use_trivialization`` starts from the present value, made orthogonal (Lezcano-Casado, 2019).
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, ag.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in MAPS:
        raise ValueError('orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: '
                         f'{orthogonal_map}')  # fmt: skip
    return register_parametrization(module, name, _Orthogonal(orthogonal_map, use_trivialization), unsafe=True)


def norm_except_dim(v, dim):
    """The 2-norm of ``v`` over all dimensions but ``dim`` (over all with −1), with the others kept at size 1."""
    if dim == -1:
        return ag.linalg.vector_norm(v)
    others = [d for d in range(v.ndim) if d != dim % v.ndim]
    return ag.linalg.vector_norm(v, 2, others, keepdim=True) if others else v.abs()


class _WeightNorm(Module):
    """g·v/‖v‖: length and direction of a weight as two parameters (Salimans and Kingma, 2016)."""

    def __init__(self, dim=0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g, weight_v):
        """The weight."""
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight):
        """Its length and itself."""
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module, name="weight", dim=0):
    """Split a parameter into its length (over all dimensions but ``dim``) and its direction; returns ``module``."""
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state_dict, prefix, *_):
        """Older checkpoints hold the two parts as name_g and name_v."""
        for number, part in enumerate("gv"):
            older = f"{prefix}{name}_{part}"
            if older in state_dict:
                state_dict[f"{prefix}parametrizations.{name}.original{number}"] = state_dict.pop(older)

    module._register_load_state_dict_pre_hook(rename)
    return module


def power_iteration(matrix, u, v, times, eps):
    """Bring the vectors ``u`` and ``v`` nearer to the leading singular vectors of ``matrix``, in place."""
    for _ in range(times):
        u.copy_(F.normalize(matrix @ v, dim=0, eps=eps))
        v.copy_(F.normalize(matrix.mT @ u, dim=0, eps=eps))


class _SpectralNorm(Module):
    """W divided by its largest singular value, estimated by power iteration (Miyato et al., 2018)."""

    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        ndim = weight.ndim
        if not -ndim <= dim < ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError("Expected n_power_iterations to be positive, but got "
                             f"n_power_iterations={n_power_iterations}")  # fmt: skip
        self.dim, self.eps, self.n_power_iterations = dim % ndim, eps, n_power_iterations
        if ndim > 1:
            with no_grad():
                matrix = self._matrix(weight.detach())
                u, v = (F.normalize(ag.randn(size, dtype=weight.dtype), dim=0, eps=eps) for size in matrix.shape)
                power_iteration(matrix, u, v, 15, eps)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)

    def _matrix(self, weight):
        return weight.movedim(self.dim, 0).flatten(1) if weight.ndim > 1 else weight

    def forward(self, weight):
        """The normalised weight; in training the estimate is improved first."""
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            with no_grad():
                power_iteration(matrix, self._u, self._v, self.n_power_iterations, self.eps)
        sigma = ag.vdot(self._u.clone(), ag.mv(matrix, self._v.clone()))
        return weight / sigma

    def right_inverse(self, value):
        """The value itself: it is taken to be normalised."""
        return value


def default_norm_dim(module) -> int:
    """The dimension of a weight that belongs to the outputs."""
    return 1 if isinstance(module, _ConvTranspose) else 0


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a parameter by its largest singular value whenever it is used; returns ``module``."""
    weight = getattr(module, name, None)
    if not isinstance(weight, ag.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    dim = default_norm_dim(module) if dim is None else dim
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
