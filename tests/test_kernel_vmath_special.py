"""The special functions on vectors: against exact values, against SciPy over their domains, and at their edges."""
from __future__ import annotations

import functools

import numpy as np
import pytest
from naive import STEPS

import autograd_core as ag
from autograd_core.kernels.elementwise import plan_loop
from autograd_core.kernels.plan import execute
from autograd_core.ops.special import _by_loop
from autograd_core.symbolic import loop_from_text

ERROR = {
    "erfc": ((-2, 1.9953222650189528), (0.3, 0.6713732405408726), (3, 2.209049699858544e-05),
             (26, 5.663192408856143e-296)),
    "erfcx": ((-3, 16205.988853999586), (0.3, 0.7345993345676551), (5, 0.11070463773306863),
              (1e8, 5.641895835477562e-09)),
    "ndtr": ((-37, 5.725571222524577e-300), (-3, 0.0013498980316300946), (0.3, 0.6179114221889527),
             (4, 0.9999683287581669)),
    "log_ndtr": ((-300, -45006.62273211866), (-1.5, -2.7059444008238898), (0.3, -0.4814101615884812),
                 (9, -1.1285884059538405e-19)),
    "erfinv": ((1e-3, 0.0008862271574665521), (0.5, 0.4769362762044699), (0.998, 2.1851242191330043),
               (0.99999999, 4.052237243268763)),
    "ndtri": ((1e-300, -37.0470962993612), (1e-12, -7.034483825301132), (0.3, -0.5244005127080408),
              (0.999, 3.090232306167813)),
}  # fmt: skip
BESSEL = {
    "i0": ((0.5, 1.0634833707413236), (11.5, 11746.141518920069), (-14, 129418.56270064856),
           (700, 1.5295933476718737e302)),
    "i0e": ((0.5, 0.6450352704491501), (11.5, 0.1189895130094226), (-14, 0.10761525167069509),
            (700, 0.015081295651531358)),
    "i1": ((0.5, 0.2578943053908963), (11.5, 11223.209738510568), (-14, -124707.25914906985),
           (700, 1.5285003902339006e302)),
    "i1e": ((0.5, 0.1564208031848717), (11.5, 0.11369216512817576), (-14, -0.10369766746314275),
            (700, 0.015070519444716848)),
}  # fmt: skip
GAMMA = {
    "lgamma": ((-0.7, 1.4524729387568078), (1e-5, 11.512919692895826), (1.001, -0.0005763935982833062),
               (3.4, 1.0923280598027414), (2e3, 13198.923448054265)),
    "digamma": ((-3.3, 3.620353460592126), (1e-5, -100000.57719921567), (1.46, -0.0015805619870834522),
                (2.5, 0.7031566406452432), (2e3, 7.6006524387087495)),
    "trigamma": ((-3.3, 14.817739525515929), (1e-5, 10000000001.644909), (1.46, 0.9691196215098878),
                 (7, 0.15354517795933756), (2e3, 0.0005001250208333323)),
}  # fmt: skip
TWO = {
    "zeta": ((1.01, 2, 99.57794333849678), (3.3, 0.01, 3981072.82307629), (7, -2.3, -4560.467895707336),
             (30, 150, 2.966903155652217e-65)),
    "polygamma": ((2, 0.3, -75.27253658872604), (3, 5, 0.021427828192755075), (7, -1.4, 7990959.758113422),
                  (20, 1.5, -487772949462609.9)),
    "igamma": ((0.3, 0.01, 0.27924099635901484), (5, 8, 0.900367599512954), (90, 70, 0.012144853031914954),
               (1e4, 9900, 0.15865119219356466)),
    "igammac": ((1e-9, 0.4, 7.023801191263341e-10), (5, 8, 0.09963240048704601), (90, 120, 0.0018608814826349665),
                (1e4, 10100, 0.15865124955282037)),
}  # fmt: skip
"""Arguments and exact results, worked out in 80 digits."""

GROUPS = {name: group for group in (ERROR, BESSEL, GAMMA, TWO) for name in group}
ULP = {"ndtr": 5, "log_ndtr": 7, "i0": 6, "i0e": 7, "i1": 6, "i1e": 7, "digamma": 10, "igamma": 40, "igammac": 40}
DTYPES = ("float32", "float64")


@functools.cache
def loop_of(group, dtype):
    """One loop of all functions of a group, which costs less to compile than one of each."""
    names = "x, y" if "zeta" in group else "x"
    text = "; ".join([f"{name}_ = {name}({names})" for name in group])
    return loop_from_text(text, dict.fromkeys(names.split(", "), dtype), {}, [f"{name}_" for name in group])


def evaluated(name, *arrays):
    """The function of vectors at the elements of arrays."""
    group = tuple(GROUPS[name])
    return execute(planner(group, arrays[0].dtype.name), arrays)[group.index(name)]


@functools.cache
def planner(group, dtype):
    return functools.partial(plan_loop, loop=loop_of(group, dtype))


def reference(name, *arrays):
    """SciPy's function, worked out in float64, in the arrays' type."""
    with np.errstate(all="ignore"):
        return STEPS[name](*[a.astype(np.float64) for a in arrays]).astype(arrays[-1].dtype)


@pytest.mark.parametrize("name", GROUPS)
def test_exact_values(name):
    *arguments, exact = np.array(GROUPS[name][name], np.float64).T
    found = evaluated(name, *arguments)
    assert np.max(np.abs(found - exact) / np.spacing(np.abs(exact))) <= ULP.get(name, 5)


def arguments_of(name, dtype):
    """Arguments over the domain of a function."""
    rng = np.random.default_rng(0)
    if name in TWO:
        x, y = rng.uniform(0, 8, 900), np.concatenate([rng.uniform(0, 9, 600), np.exp(rng.uniform(-20, 6, 300))])
        x = {"zeta": x + 1.001, "polygamma": np.rint(x) + 1}.get(name, x * x)
        return x.astype(dtype), y.astype(dtype)
    ends = {"erfc": (-6, 9), "erfcx": (-9, 40), "ndtr": (-13, 6), "log_ndtr": (-200, 8), "erfinv": (-1, 1),
            "ndtri": (0, 1), "i0": (-80, 80), "i1": (-80, 80)}  # fmt: skip
    x = np.concatenate([rng.uniform(*ends.get(name, (0, 40)), 2000), rng.uniform(0, 1, 500),
                        np.exp(rng.uniform(-60, 0, 500))])  # fmt: skip
    return (x.astype(dtype),)


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_domain(name, dtype):
    """In float64 SciPy's own errors are in the way, of 1e-13 here and there."""
    arguments = arguments_of(name, dtype)
    found, expected = evaluated(name, *arguments), reference(name, *arguments)
    normal = np.abs(expected) > np.finfo(dtype).tiny
    bound = 1e-12 if dtype == "float64" else ULP.get(name, 5) * 2.0**-23 if name in (*ERROR, *BESSEL) else 2.0**-23
    assert found.dtype == dtype
    np.testing.assert_allclose(found[normal], expected[normal], rtol=bound)


@pytest.mark.parametrize("name", [name for name in GROUPS if name not in TWO])
@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(name, dtype):
    kind = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, -7, 30, kind.tiny, -kind.tiny, kind.max, -kind.max],
                 dtype)  # fmt: skip
    expected = reference(name, x)
    expected[3] = {"lgamma": np.inf, "trigamma": np.nan}.get(name, expected[3])  # where SciPy has the other one
    np.testing.assert_allclose(evaluated(name, x), expected, rtol=max(8 * kind.eps, 1e-12), atol=kind.tiny)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_of_two_arguments(dtype):
    inf, nan, huge = np.inf, np.nan, np.finfo(dtype).max
    cases = {
        "zeta": [(2, 0, inf), (2, -1, inf), (1, 3, inf), (0.5, 3, nan), (2.5, -0.5, nan), (nan, 1, nan), (2, nan, nan),
                 (1000, 1, 1), (2, 1e10, 1e-10)],
        "polygamma": [(2, 0, -inf), (3, 0, inf), (2, -3, -inf), (2, nan, nan), (200, 0.5, -inf)],
        "igamma": [(0, 0, nan), (0, 1, 1), (1, 0, 0), (1, inf, 1), (inf, 1, 0), (inf, inf, nan), (-1, 1, nan),
                   (1, -1, nan), (nan, 1, nan), (1, nan, nan), (huge, 1, 0), (1, huge, 1)],
        "igammac": [(0, 0, nan), (0, 1, 0), (1, 0, 1), (1, inf, 0), (inf, 1, 1), (inf, inf, nan), (-1, 1, nan),
                    (1, -1, nan), (nan, 1, nan), (1, nan, nan), (huge, 1, 1), (1, huge, 0)],
    }  # fmt: skip
    for name, rows in cases.items():
        x, y, expected = np.array(rows, dtype).T.copy()
        np.testing.assert_allclose(evaluated(name, x, y), expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["special.log_ndtr", "special.i1", "digamma"])
def test_operations_change_over(name):
    """Large arrays go through loops and small ones through SciPy, gradients too, with the same results."""
    x = np.random.default_rng(0).uniform(-0.9, 4, 1200)

    def value_and_gradient(part):
        tensor = ag.tensor(part, requires_grad=True)
        out = functools.reduce(getattr, name.split("."), ag)(tensor)
        out.sum().backward()
        return np.stack([out.detach().numpy(), tensor.grad.numpy()])

    large, small = value_and_gradient(x), [value_and_gradient(part) for part in np.split(x, 12)]
    np.testing.assert_allclose(large, np.concatenate(small, 1), rtol=1e-11)


def test_without_scipy():
    """Then loops serve arrays of all sizes and types."""
    for dtype in ("float16", "float32", "float64"):
        x = np.array([[0.0, 0.25, -0.5, 1.0]], dtype)
        np.testing.assert_allclose(_by_loop("erf", x), reference("erf", x), rtol=1e-3 if dtype == "float16" else 1e-6)
    assert _by_loop("erf", np.zeros((0, 3))).shape == (0, 3)
    s = np.float64(3)
    np.testing.assert_allclose(_by_loop("zeta", s, np.array([0.5, 2])), reference("zeta", s, np.array([0.5, 2])))
