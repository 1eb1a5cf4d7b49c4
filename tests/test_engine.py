"""The engine at its edges: accumulation, freeing, hooks, long chains, threads, forks, second order."""

import gc
import os
import threading
import weakref

import numpy as np
import pytest
from subjects import Cube, Exp

import autograd_core as ag
from autograd_core.modes import Watcher


def leaf(*values):
    return ag.tensor(np.array(values, np.float64), requires_grad=True)


def test_gradients_of_every_path_add_up():
    x = leaf(1.0, 2.0)
    y = x * x
    (y * x + y + x).sum().backward()
    assert np.allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2 + 2 * x.detach().numpy() + 1)


def test_two_leaves_never_share_their_gradient():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).sum().backward()
    x.grad.mul_(5.0)
    assert y.grad.tolist() == [1, 1]
    (x + y).backward(ag.tensor(np.array([2.0, 3.0])))
    assert x.grad.tolist() == [7, 8]
    assert y.grad.tolist() == [3, 4]


def test_gradients_that_somebody_holds_are_neither_kept_nor_added_into():
    held = []

    class Holds(ag.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            held.append(g * 1)
            return held[-1]

    x, hooked = leaf(1.0, 2.0), []
    y = Holds.apply(x) * 2
    y.register_hook(hooked.append)
    (y + Holds.apply(x.reshape(1, 2)).reshape(2) * 3 + y).sum().backward()
    x.grad.mul_(7.0)
    assert [g.reshape(2).tolist() for g in (*held, *hooked)] == [[3, 3], [4, 4], [2, 2]]
    assert x.grad.tolist() == [49, 49]


def test_a_door_does_what_the_one_for_all_does():
    x, y = ag.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), ag.tensor([2.0, 5.0], requires_grad=True)
    z = x * 1
    calls = [lambda: z + y, lambda: 2 - z, lambda: z * np.float64(3), lambda: z.sum(0), lambda: z.T, lambda: z.max(1),
             lambda: z @ x, lambda: z.split(1), lambda: ag.stack([z, x]), lambda: z > y, z.exp, lambda: z // 2]
    for call in calls:
        with Watcher():  # which leads to `apply`
            known = call()
        made = call()
        assert type(made) is type(known)
        for one, other in zip(*[(v,) if isinstance(v, ag.Tensor) else v for v in (made, known)], strict=True):
            assert one.array.dtype == other.array.dtype
            assert one.tolist() == other.tolist()
            assert one.base is other.base
            assert (one.tracks, one.index, one.recipe) == (other.tracks, other.index, other.recipe)
            if other.node is not None:
                assert one.node.op is other.node.op
                assert one.node.plan is other.node.plan
                assert one.node.meta == other.node.meta
                assert one.node.edges == other.node.edges
                assert one.node.static == other.node.static
                assert one.node.site[0] is other.node.site[0]
                assert str(one.node.saved) == str(other.node.saved)


def test_the_gradient_given_to_backward_is_not_kept():
    x, g = leaf(1.0, 2.0), ag.tensor(np.array([1.0, 1.0]))
    (x + 0.0).backward(g)
    g.mul_(7.0)
    assert x.grad.tolist() == [1, 1]


def test_gradient_buffers_are_accumulated_in_place():
    x = leaf(1.0)
    (x * 2).sum().backward()
    first = x.grad
    (x * 2).sum().backward()
    assert x.grad is first
    assert first.tolist() == [4]


def test_a_chain_of_100_000_operations():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.item() == 1
    del y


def test_a_freed_graph_says_so():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"have been freed.*\n?.*retain_graph=True"):
        y.backward()
    z = (x * x).sum()
    z.backward(retain_graph=True)
    z.backward()


def test_the_graph_goes_with_its_last_tensor():
    x = leaf(1.0, 2.0)
    y = (x * x).exp()
    node = weakref.ref(y.grad_fn)
    gc.disable()
    try:
        del y
        assert node() is None
    finally:
        gc.enable()


def test_a_leaf_changed_in_place_is_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="leaf tensor that requires grad"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="view of a leaf"):
        x[0].mul_(2.0)
    with ag.no_grad():
        x.add_(1.0)
    assert x.tolist() == [2, 3]


def test_a_saved_value_changed_in_place_is_refused_with_both_lines():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    z = y * y
    y.detach().mul_(2.0)
    with pytest.raises(RuntimeError) as caught:
        z.sum().backward()
    text = str(caught.value)
    assert "z = y * y" in text
    assert "y.detach().mul_(2.0)" in text


def test_parts_that_do_not_overlap_raise_no_alarm():
    x = leaf(1.0, 2.0, 3.0, 4.0)
    base = (x * 1.0).detach()
    y = (base[::2] * x[:2]).sum()
    base[1::2].mul_(10.0)
    y.backward()
    assert x.grad.tolist() == [1, 3, 0, 0]


def test_integers_cannot_require_grad():
    with pytest.raises(RuntimeError, match="only floating-point"):
        ag.tensor([1, 2]).requires_grad_()


def test_implicit_gradient_needs_one_element():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x * x).backward()


def test_grad_of_unused_inputs():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match="not used"):
        ag.grad((x * 2).sum(), [x, y])
    found = ag.grad((x * 2).sum(), [x, y], allow_unused=True)
    assert found[0].item() == 2
    assert found[1] is None
    assert ag.grad((x * 2).sum(), [y], materialize_grads=True)[0].item() == 0


def test_grad_of_inner_tensors_and_inputs_argument():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    z = (y * y).sum()
    (gy,) = ag.grad(z, [y], retain_graph=True)
    assert gy.tolist() == [6, 12]
    assert x.grad is None
    w = leaf(5.0)
    (z + w.sum()).backward(inputs=[w])
    assert x.grad is None
    assert w.grad.item() == 1


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_any_order_of_derivative(order):
    x = leaf(0.3, -1.2)
    value = (x**5).sum()
    for _ in range(order):
        (value,) = ag.grad(value.sum(), [x], create_graph=True)
    expected = np.prod([5 - k for k in range(order)]) * x.detach().numpy() ** (5 - order)
    assert np.allclose(value.detach().numpy(), expected)


def test_hooks_change_and_see_gradients():
    x = leaf(1.0, 2.0)
    seen = []
    handle = x.register_hook(lambda g: g * 2)
    y = x * 3.0
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.retain_grad()
    y.sum().backward()
    assert seen == [[1, 1]]
    assert y.grad.tolist() == [1, 1]
    assert x.grad.tolist() == [6, 6]
    handle.remove()
    x.grad = None
    (x * 3.0).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_leaf_hooks_see_the_sum_and_post_hooks_the_leaf():
    x = leaf(1.0)
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.item()))
    (x * 2 + x * 3).sum().backward()
    assert seen == [5, 5]


def test_modes_nest_and_decorate():
    x = leaf(1.0)
    with ag.no_grad():
        assert not (x * 2).requires_grad
        with ag.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @ag.no_grad()
    def first(t):
        return t * 2

    @ag.no_grad
    def second(t):
        return t * 2

    assert not first(x).requires_grad
    assert not second(x).requires_grad
    with ag.set_grad_enabled(False):
        assert not ag.is_grad_enabled()
    with ag.inference_mode():
        assert not (x * 2).requires_grad
    assert ag.is_grad_enabled()


def test_threads_run_their_own_backward_and_mode():
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            x = ag.tensor(rng.normal(size=7), requires_grad=True)
            with ag.no_grad():
                hidden = x * 2
            (x * x).sum().backward()
            if hidden.requires_grad or not np.allclose(x.grad.numpy(), 2 * x.detach().numpy()):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_can_work():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    child = os.fork()
    if child == 0:
        y = leaf(3.0)
        (y * y).sum().backward()
        os._exit(0 if y.grad.item() == 6 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_errors_name_the_operation_the_shapes_and_the_line():
    a, b = ag.zeros(2, 3), ag.zeros(4, 5)
    with pytest.raises(RuntimeError) as caught:
        a @ b
    text = str(caught.value)
    for part in ("matmul", "[2, 3]", "[4, 5]", "test_engine.py", "a @ b"):
        assert part in text


def test_errors_in_a_backward_name_the_forward_line():
    class Broken(ag.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad.reshape(5)

    x = leaf(1.0, 2.0)
    y = Broken.apply(x)
    with pytest.raises(RuntimeError) as caught:
        y.sum().backward()
    assert "in the gradient of Broken, made at" in str(caught.value)
    assert "y = Broken.apply(x)" in str(caught.value)


def test_a_warning_free_engine_leaves_numpy_as_it_was():
    before = np.geterr()
    assert ag.tensor([0.0]).log().item() == -np.inf
    assert np.geterr() == before
    with pytest.warns(RuntimeWarning):
        np.log(np.zeros(1))


def test_functions_of_the_user_and_their_second_order():
    x = leaf(0.5, -1.5)
    assert ag.gradcheck(Cube.apply, (x,))
    assert ag.gradgradcheck(Cube.apply, (x,))
    y = Cube.apply(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_functions_may_save_outputs_without_leaking():
    x = leaf(0.5, -1.5)
    assert ag.gradcheck(Exp.apply, (x,))
    assert ag.gradgradcheck(Exp.apply, (x,))
    y = Exp.apply(x)
    node = weakref.ref(y.grad_fn)
    del y
    gc.collect()
    assert node() is None


def test_checkpoint_gives_the_same_gradients_and_reaches_captured_tensors():
    w, x = leaf(0.3, 0.7), leaf(1.0, 2.0)

    def block(t):
        return (t * w).exp() * t

    plain = ag.grad(block(x).sum(), [x, w])
    saved = ag.grad(ag.checkpoint(block, x).sum(), [x, w])
    for a, b in zip(plain, saved, strict=True):
        assert a.tolist() == b.tolist()
    assert ag.gradcheck(lambda t: ag.checkpoint(block, t), (x,))
    assert ag.gradgradcheck(lambda t: ag.checkpoint(block, t), (x,))


def test_gradcheck_names_the_input_the_element_and_the_operation():
    class Wrong(ag.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.saved_tensors[0].cos() * 1.01

    x = leaf(0.5, 0.1)
    with pytest.raises(RuntimeError) as caught:
        ag.gradcheck(lambda t: Wrong.apply(t * 2).exp(), (x,))
    text = str(caught.value)
    assert "input 0" in text
    assert "Wrong" in text
    assert "analytic" in text
    assert not ag.gradcheck(Wrong.apply, (x,), raise_exception=False)


def test_transforms_agree_with_formulas():
    x = ag.tensor(np.array([0.5, -0.3, 2.0]))
    a = x.numpy()
    jacobian = ag.jacobian(lambda t: t.exp() * t[0], x).numpy()
    expected = np.diag(np.exp(a) * a[0])
    expected[:, 0] += np.exp(a)
    assert np.allclose(jacobian, expected)
    assert np.allclose(ag.hessian(lambda t: (t**3).sum(), x).numpy(), np.diag(6 * a))
    v = ag.tensor(np.array([1.0, 2.0, 3.0]))
    assert np.allclose(ag.jvp(lambda t: t * t, x, v)[1].numpy(), 2 * a * v.numpy())
    assert np.allclose(ag.vjp(lambda t: t * t, x, v)[1].numpy(), 2 * a * v.numpy())
    assert np.allclose(ag.hvp(lambda t: (t**3).sum(), x, v)[1].numpy(), 6 * a * v.numpy())
    value, grads = ag.value_and_grad(lambda p, k: (p["w"] * k).sum())({"w": x}, 3.0)
    assert value.item() == pytest.approx(3 * a.sum())
    assert grads["w"].tolist() == [3, 3, 3]


def test_zero_size_and_zero_d():
    x = ag.tensor(np.zeros((0, 3)), requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad.shape == (0, 3)
    y = ag.tensor(2.0, requires_grad=True)
    (y * y).backward()
    assert y.grad.item() == 4


def test_views_of_a_base_changed_in_place_have_its_new_history():
    w = leaf(1.0, 2.0, 3.0, 4.0)
    base = w * 1.0
    first, second = base[:2], base[1:]
    first.mul_(10.0)
    (second * ag.tensor(np.array([1.0, 1.0, 1.0]))).sum().backward()
    assert second.tolist() == [20, 3, 4]
    assert w.grad.tolist() == [0, 10, 1, 1]


# ---------------------------------------------------------------------------------------------------- arguments, hooks


def test_gradients_take_the_dtype_of_what_they_belong_to():
    x = leaf(1.0, 2.0)
    x.backward(ag.ones(2))
    assert x.grad.dtype == ag.float64


def test_inputs_are_checked():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="does not require grad"):
        (x * 2).sum().backward(inputs=[ag.ones(1)])
    with pytest.raises(ValueError, match="materialize_grads"):
        ag.grad((x * 2).sum(), [x], materialize_grads=True, allow_unused=False)


def test_an_input_that_keeps_its_gradient_gets_it_once():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward(inputs=[y, x])
    assert y.grad.tolist() == [4, 8]


def test_a_graph_without_saved_values_can_be_used_again():
    """As in PyTorch: there is nothing that the first backward could have freed."""
    x = leaf(1.0, 2.0)
    y = (x + 1).view(2, 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2, 2]


def test_batched_gradients_free_the_graph():
    x = leaf(1.0, 2.0)
    y = x**2
    (rows,) = ag.grad(y, [x], ag.eye(2, dtype=ag.float64), is_grads_batched=True)
    assert rows.tolist() == [[2, 0], [0, 4]]
    with pytest.raises(RuntimeError, match="freed"):
        y.sum().backward()


def test_a_hook_may_write_its_gradient():
    """The array is its own: other tensors may have been sent the same one."""
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    x.register_hook(lambda g: g.mul_(2))
    (x + w).backward(ag.ones(2, dtype=ag.float64))
    assert x.grad.tolist() == [2, 2]
    assert w.grad.tolist() == [1, 1]


@pytest.mark.parametrize("wrong", [5, ag.ones(3, dtype=ag.float64), ag.ones(2)], ids=["number", "shape", "dtype"])
def test_a_hook_must_return_a_gradient(wrong):
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(lambda g: wrong)
    with pytest.raises((TypeError, RuntimeError), match="a hook must return"):
        y.sum().backward()


def test_an_error_midway_writes_no_gradient_and_leaves_the_graph_usable():
    x, w = leaf(1.0), leaf(2.0)
    y = x * w

    def fail(g):
        raise KeyError("boo")

    handle = y.register_hook(fail)
    z = (y + w).sum()
    with pytest.raises(KeyError):
        z.backward(retain_graph=True)
    assert x.grad is None
    assert w.grad is None
    handle.remove()
    z.backward()
    assert (x.grad.item(), w.grad.item()) == (2, 2)


def test_what_a_users_code_raises_in_backward_stays_what_it_is():
    class Own(Exception):
        pass

    class Bad(ag.autograd.Function):
        forward = staticmethod(lambda ctx, x: x * 2)

        @staticmethod
        def backward(ctx, g):
            raise kind("no")

    for kind in (Own, ValueError):
        with pytest.raises(kind, match="no") as caught:
            Bad.apply(leaf(1.0)).sum().backward()
        assert type(caught.value) is kind


def test_nodes_can_be_walked_as_in_pytorch():
    x = leaf(1.0)
    y = (x * 2).exp()
    assert y.grad_fn.name() == "ExpBackward"
    product = y.grad_fn.next_functions[0][0]
    end = product.next_functions[0][0]
    assert end.variable is x
    assert end.next_functions == ()


@pytest.mark.parametrize("create_graph", [False, True])
def test_nodes_have_hooks_as_in_pytorch(create_graph):
    x, factor = ag.tensor([1.0, 2.0], requires_grad=True), ag.tensor([3.0], requires_grad=True)
    seen = []
    product = x * factor
    y = product.sum()
    y.grad_fn.register_hook(lambda sent, given: (sent[0] * 5,))
    product.grad_fn.register_prehook(lambda given: (given[0] * 2,))
    handle = product.grad_fn.register_hook(lambda sent, given: seen.append([v.tolist() for v in (*sent, *given)]))
    product.grad_fn.next_functions[0][0].register_hook(lambda sent, given: seen.append((sent, given[0].tolist())))
    product.grad_fn.next_functions[1][0].register_prehook(lambda given: (given[0] + 1,))
    y.backward(retain_graph=True, create_graph=create_graph)
    assert seen == [[[30.0, 30.0], [30.0], [10.0, 10.0]], ((), [30.0, 30.0])]  # 30 = 10 * (1 + 2) of what was broadcast
    assert factor.grad.tolist() == [31.0]
    handle.remove()
    y.backward()
    assert seen[2:] == [((), [60.0, 60.0])]


def test_hooks_of_nodes_say_what_they_must_return():
    x = ag.ones(2, requires_grad=True)
    for hook, message in [(lambda sent, given: (1, 2), "a tuple of 1 gradients, got 2"),
                          (lambda sent, given: 5, "a tuple of 1 gradients, got int"),
                          (lambda sent, given: (ag.ones(3),), r"of the kind that it gets, float32\[2\]")]:  # fmt: skip
        y = x.exp()
        y.grad_fn.register_hook(hook)
        with pytest.raises((TypeError, RuntimeError), match=message):
            y.sum().backward()


def test_a_node_of_the_gradient_knows_the_forward_one_while_it_lives():
    x = leaf(1.0)
    y = x**3
    (g,) = ag.grad(y.sum(), x, create_graph=True)
    assert g.grad_fn.forward is y.grad_fn


# ---------------------------------------------------------------------------------------------------- modes, threads


def test_modes_in_generators_see_what_is_sent_and_thrown():
    x, seen = leaf(1.0), []

    @ag.no_grad()
    def draws():
        try:
            seen.append((yield (x * 2).requires_grad))
            yield None
        except KeyError:
            yield "caught"
        finally:
            seen.append(ag.is_grad_enabled())

    made = draws()
    assert next(made) is False
    assert ag.is_grad_enabled()
    made.send("sent")
    assert made.throw(KeyError) == "caught"
    made.close()
    assert seen == ["sent", False]


def test_set_grad_enabled_as_a_decorator_acts_in_the_function_alone():
    @ag.set_grad_enabled(False)
    def f(t):
        return t * 2

    assert ag.is_grad_enabled()
    assert not f(leaf(1.0)).requires_grad
    assert ag.inference_mode(False)(lambda t: t * 2)(leaf(1.0)).requires_grad


def test_threads_that_share_a_leaf_lose_no_gradient():
    x = ag.tensor(np.ones(100_000), requires_grad=True)

    def work():
        for _ in range(10):
            (x * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.unique(x.grad.numpy()).tolist() == [40]


# ---------------------------------------------------------------------------------------------------- functions


def test_functions_refuse_to_save_what_is_no_tensor():
    class Bad(ag.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(5)
            return x * 2

    with pytest.raises(TypeError, match="save_for_backward"):
        Bad.apply(leaf(1.0))


def test_a_function_without_recording_hands_an_input_back_without_history():
    class Identity(ag.autograd.Function):
        forward = staticmethod(lambda ctx, x: x)

    x = leaf(1.0)
    with ag.no_grad():
        assert not Identity.apply(x).requires_grad


def test_gradcheck_looks_at_functions_without_any_gradient():
    assert not ag.gradcheck(lambda t: t.detach() * 2, (leaf(1.0),), raise_exception=False)
    assert ag.gradcheck(lambda t: ag.ones(2, dtype=ag.float64), (leaf(1.0),))


def test_gradcheck_names_kinks():
    with pytest.raises(RuntimeError, match="kink there: its slope is 0 on the left and 1 on the right"):
        ag.gradcheck(ag.relu, (leaf(0.0, 1.0),))


def test_a_wide_operation_takes_linear_time():
    xs = [leaf(1.0) for _ in range(10_000)]
    ag.cat(xs).sum().backward()
    assert all(x.grad.item() == 1 for x in xs)


def test_the_extreme_of_a_vector_along_its_dimension():
    x = leaf(1.0, 3.0, 2.0)
    x.max(0).values.backward()
    assert x.grad.tolist() == [0, 1, 0]


def random_graph(rng):
    """Two leaves and what sums, differences and views in random order make of them; all values are whole numbers."""
    leaves = x, y = [ag.tensor(rng.integers(-2, 3, (2, 3)).astype(float), requires_grad=True) for _ in range(2)]
    steps = [lambda a, b: a + b, lambda a, b: a + b.view(6).view(2, 3), lambda a, b: a.t().t() - b,
             lambda a, b: a * x.detach(), lambda a, b: a.reshape(3, 2).reshape(2, 3) + y,
             lambda a, b: x + y + a]  # fmt: skip
    made = list(leaves)
    for _ in range(25):
        kind, (i, j) = rng.integers(6), rng.integers(len(made), size=2)
        made.append(steps[kind](made[i], made[j]))
    return leaves, sum(made[-4:])


@pytest.mark.parametrize("seed", range(0, 600, 100))
def test_buffers_that_are_added_into_belong_to_nobody_else(seed):
    """Random graphs have the same gradients with ``create_graph``, which adds nothing in place."""
    for number in range(seed, seed + 100):
        rng = np.random.default_rng(number)
        leaves, out = random_graph(rng)
        start = ag.tensor(rng.integers(-2, 3, (2, 3)).astype(float))
        before = start.tolist()
        plain, recorded = ([g.tolist() for g in ag.grad(out, leaves, start, True, create, materialize_grads=True)]
                           for create in (False, True))  # fmt: skip
        assert plain == recorded, number
        assert start.tolist() == before


def test_a_gradient_that_a_graph_has_saved_is_not_added_to_unseen():
    x, w = leaf(1.0), leaf(2.0)
    (x * 3).sum().backward()
    z = (x.grad * w).sum()
    (x * 3).sum().backward()
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        z.backward()
