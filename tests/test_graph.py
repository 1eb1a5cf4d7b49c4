"""Graphs: what is recorded of a computation, forward and backward, and that recording changes nothing."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import autograd_core as ag
import nn
import nn.functional as F
import optim
from autograd_core.seeing.names import assignment_after, stores_after
from autograd_core.seeing.statistics import Kept, statistics


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 3)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.fc1, self.fc2, self.fc3 = nn.Linear(16, 12), nn.Linear(12, 8), nn.Linear(8, 10)

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.fc1(x.flatten(1)))
        return self.fc3(self.relu(self.fc2(x)))


def labels(graph, *kinds):
    return [v.label for v in graph.vertices.values() if v.kind in (kinds or ("op",))]


def vertex(graph, label):
    (found,) = [v for v in graph.vertices.values() if v.label == label]
    return found


def sources(graph, label):
    return [
        graph.vertices[key].name or graph.vertices[key].label for key in graph.inputs_of()[vertex(graph, label).key]
    ]


@pytest.fixture(scope="module")
def lenet():
    ag.manual_seed(0)
    model, images, target = LeNet(), ag.randn(2, 1, 8, 8), ag.tensor([3, 5])
    return model, images, target, ag.graph(model, images, loss=lambda out: F.cross_entropy(out, target))


# ---------------------------------------------------------------------------------------------------- what it holds


def test_forward_and_backward_are_matched_in_order_with_modules_and_lines(lenet):
    graph = lenet[3]
    forward = [v for v in graph.vertices.values() if v.kind == "op"]
    backward = [v for v in graph.vertices.values() if v.kind == "backward"]
    assert labels(graph)[:4] == ["conv2d", "relu", "max_pool", "conv2d"]
    assert [v.forward for v in backward] == [v.key for v in reversed(forward)]
    assert [graph.modules[v.module].path for v in forward[:3]] == ["LeNet.conv1", "LeNet.relu", "LeNet.pool"]
    assert [m.call for m in graph.modules.values() if m.name == "relu"] == [1, 2, 3, 4]
    source = forward[0].source()
    assert source["file"].endswith("test_graph.py")
    assert source["text"] == "x = self.pool(self.relu(self.conv1(x)))"
    assert graph.passes == "forward and backward"
    assert all(v.seconds > 0 and v.started >= 0 for v in forward + backward)


def test_values_and_gradients_are_those_of_the_step(lenet):
    model, images, target, graph = lenet
    model.zero_grad()
    loss = F.cross_entropy(model(images), target)
    loss.backward()
    assert np.array_equal(vertex(graph, "output").value.array, loss.detach().numpy())
    for name, parameter in model.named_parameters():
        found = vertex(graph, name)
        assert found.value.array is parameter.array, "kept by reference"
        assert np.array_equal(found.gradient.array, parameter.grad.array)
        assert vertex(graph, f"grad of {name}").value.array is found.gradient.array
    model.zero_grad()


def test_work_and_memory_are_known_forward_and_backward(lenet):
    model, _, _, graph = lenet
    conv = next(v for v in graph.vertices.values() if v.label == "conv2d")
    back = next(v for v in graph.vertices.values() if v.forward == conv.key and v.kind == "backward")
    work = 2 * 2 * 6 * 8 * 8 * 25
    assert (conv.flops, back.flops) == (work, work), "the image wants no gradient, the weight does"
    second = next(v for v in graph.vertices.values() if v.label == "conv2d backward")
    assert second.flops == 2 * (2 * 2 * 16 * 2 * 2 * 54)
    assert graph.parameters == sum(p.numel() for p in model.parameters())
    relu = next(v for v in graph.vertices.values() if v.label == "relu")
    assert relu.saved_bytes == relu.value.array.nbytes
    assert graph.saved_bytes == sum(v.saved_bytes or 0 for v in graph.forward)


def test_names_are_those_that_the_user_gave():
    weight = ag.ones(3, 2, requires_grad=True)

    def network(rows):
        hidden = rows @ weight
        first, second = hidden.unbind(1)
        return first * second

    table = ag.ones(4, 3)
    graph = ag.graph(network, table)
    assert [v.name for v in graph.vertices.values() if v.kind == "op"] == ["hidden", "first, second", None]
    assert labels(graph, "input", "parameter") == ["table", "weight"]
    assert labels(ag.graph(network, ag.ones(4, 3)), "input") == ["rows"], "without a variable: the parameter's name"


def test_a_variable_that_held_something_else_gives_no_name():
    def network(x):
        y = x.exp()
        (x + 1).sum()
        y = y * 2
        return y  # noqa: RET504 (the name is what is tested)

    names = [(v.label, v.name) for v in ag.graph(network, ag.ones(2)).vertices.values() if v.kind == "op"]
    assert names == [("exp", "y"), ("add", None), ("sum", None), ("mul", "y")]


class Keeper(nn.Module):
    """Results go everywhere that a statement can put them."""

    def forward(self, x):
        self.hidden = x.exp().sin()
        first, second = x * 2, x + 1
        table, rows = {"cos": None}, [None, None]
        table["cos"] = x.cos()
        for number in range(2):
            rows[number] = x.tanh()
        for part in x.split(1):
            second = second - part
        second *= 2
        return (total := second.sum()) * first.sum() + total


def test_results_have_the_names_of_attributes_entries_loops_and_tuples():
    made = [v.name for v in ag.graph(Keeper(), ag.ones(2, 3)).forward if v.kind == "op"]
    assert made == [None, "self.hidden", "first", "second", "table['cos']", "rows[0]", "rows[1]", "part", "second",
                    "second", "second", "total", None, None, None]  # fmt: skip


def test_assigned_names_are_read_from_the_code():
    def statements(f, box):
        a = f()
        b, (c, d) = f()
        e = g = f()
        box.k = box[1] = f()
        f()
        return a, b, c, d, e, g

    code = statements.__code__
    known = [assignment_after((code, offset)) for offset in range(0, len(code.co_code), 2)]
    found = {tuple([target.found_in({})[0] for target in made.targets]) for made in known if made is not None}
    assert {("a",), ("b", "c", "d"), ("e", "g"), ("box.k", "box[1]")} <= found


@pytest.mark.parametrize("steps", [
    [("CALL", 0), ("CACHE", 0), ("UNPACK_SEQUENCE", 3), ("STORE_FAST_STORE_FAST", ("a", "b")), ("STORE_FAST", "c")],
    [("CALL", None), ("STORE_FAST_LOAD_FAST", ("a", "x")), ("RETURN_VALUE", None)],
    [("BINARY_OP", None), ("COPY", 1), ("STORE_NAME", "a"), ("STORE_GLOBAL", "b")],
])  # fmt: skip
def test_instructions_of_other_versions_of_python_are_understood(steps):
    at = SimpleNamespace(lineno=1)
    listed = [
        SimpleNamespace(opname=name, argval=value, offset=2 * i, positions=at) for i, (name, value) in enumerate(steps)
    ]
    wanted = [name for _, value in steps[1:] if isinstance(value, (str, tuple))
              for name in ((value,) if isinstance(value, str) else value)]  # fmt: skip
    found = stores_after(listed, 0)
    assert [target.name for target in found.targets] == (["a"] if "x" in wanted else wanted)


def test_any_function_is_traced_with_its_control_flow():
    def newton(a, steps):
        x = a
        for _ in range(steps):
            if (x * x - a).abs() < 1e-6:
                break
            x = (x + a / x) / 2
        return {"root": x, "error": [x * x - a]}

    graph = ag.graph(newton, ag.tensor(2.0, requires_grad=True), 20)
    assert labels(graph).count("true_divide") == 2 * (labels(graph).count("abs") - 1) > 0, "two a step that was taken"
    assert labels(graph, "output") == ["output 0", "output 1"]
    assert vertex(graph, "a").gradient.array is not None


def test_what_goes_in_and_out_may_be_nested_and_named():
    graph = ag.graph(lambda pair, *, scale: pair[0] * scale + pair[1], (ag.ones(2), ag.zeros(2)),
                     kwargs={"scale": ag.tensor(2.0)})  # fmt: skip
    assert labels(graph, "input") == ["pair[0]", "pair[1]", "scale"]


def test_lost_gradients_of_a_freed_history_are_a_structure():
    weight = ag.ones(2, requires_grad=True)
    loss = (weight * 3).exp().sum()
    graph = ag.graph(loss)
    assert labels(graph) == ["mul", "exp", "sum"]
    assert np.allclose(vertex(graph, "weight").gradient.array, 3 * np.exp(3))
    assert weight.grad is None
    loss.backward()
    graph = ag.graph(loss)
    assert labels(graph, "backward") == ["sum backward", "exp backward", "mul backward"]
    assert vertex(graph, "sum backward").seconds is None
    assert vertex(graph, "weight").gradient is None


def test_it_says_what_it_needs():
    with pytest.raises(ValueError, match="no history"):
        ag.graph(ag.ones(2))
    with pytest.raises(TypeError, match="graph: needs a Tensor, a module or a function, got int"):
        ag.graph(3)


# ---------------------------------------------------------------------------------------------------- recording


def test_a_whole_training_step_is_recorded():
    ag.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x = ag.ones(4, 2)
    before = model[0].weight.detach().clone()
    with ag.record("a step") as graph:
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
    assert labels(graph) == ["linear", "tanh", "linear", "pow", "mean", "SGD step"]
    assert vertex(graph, "mean").name == "loss"
    assert sources(graph, "SGD step") == [f"grad of {name}" for name, _ in model.named_parameters()]
    assert np.array_equal(vertex(graph, "0.weight").value.array, before.array), "copied before the step changed it"
    assert not np.array_equal(before.array, model[0].weight.array)
    assert model[0].weight.grad is not None


def test_what_ran_is_kept_when_the_code_raises():
    x = ag.ones(2, 3)
    with pytest.raises(ag.OpError), ag.record() as graph:
        y = x.exp()
        y @ x
    assert labels(graph) == ["exp", "matmul"]
    assert "sizes" in vertex(graph, "matmul").error
    assert graph.error.startswith("OpError: matmul")
    assert sources(graph, "matmul") == ["y", "x"]
    assert "ends early: OpError" in str(graph)
    with pytest.raises(KeyError), ag.record() as graph:
        x.exp()
        raise KeyError("mine")
    assert graph.error == "KeyError: 'mine'"


def test_an_error_in_the_backward_is_there_too():
    class Broken(ag.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            raise ZeroDivisionError("no rule")

    x = ag.ones(2, requires_grad=True)
    with pytest.raises(ZeroDivisionError), ag.record() as graph:
        Broken.apply(x).sum().backward()
    assert vertex(graph, "Broken backward").error == "ZeroDivisionError: no rule"


def test_in_place_changes_copy_what_is_held_and_are_edges():
    x = ag.ones(3)
    with ag.record() as graph:
        y = x * 2
        z = y + 1
        y.mul_(5)
        w = y + z
    first = [v for v in graph.vertices.values() if v.label == "mul"]
    assert np.array_equal(first[0].value.array, [2, 2, 2]), "as it was before the change"
    assert np.array_equal(first[1].value.array, [10, 10, 10])
    assert first[1].settings["in place"] == "yes"
    last = [v for v in graph.vertices.values() if v.label == "add"][1]
    assert [graph.vertices[k].label for k in graph.inputs_of()[last.key]] == ["mul", "add"]
    assert graph.inputs_of()[last.key][0] == first[1].key
    assert w is not None


@pytest.mark.parametrize("tracked", [False, True])
def test_parts_that_are_written_lead_to_the_whole(tracked):
    def filled(x):
        table = ag.zeros(2, 3)
        table[1] = x.exp()
        return table + 1

    graph = ag.graph(filled, ag.ones(3, requires_grad=tracked))
    above, stack = set(), [vertex(graph, "add").key]
    while stack:
        for key in graph.inputs_of()[stack.pop()]:
            above.add(graph.vertices[key].label)
            stack.append(key)
    assert {"exp", "zeros", "setitem"} <= above


def test_values_that_were_overwritten_later_are_gone_not_wrong():
    model = nn.Linear(2, 1)
    graph = ag.graph(model, ag.ones(1, 2))
    with ag.no_grad():
        model.weight.mul_(2)
    found = vertex(graph, "weight")
    assert found.value.array is None
    assert found.value.statistics() is None
    assert "test_graph.py" in found.value.lost
    assert vertex(graph, "bias").value.statistics()["count"] == 1
    data = graph.json()
    (node,) = [n for n in data["nodes"] if n["label"] == "weight"]
    assert node["value"] is None
    assert "mul_(2)" in node["lost"]


def test_looking_leaves_no_trace():
    ag.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    x = ag.ones(4, 2)
    model[0].weight.grad = ag.ones(3, 2)
    mean, state = model[1].running_mean, ag.get_rng_state()
    graph = ag.graph(model, x)
    assert (model[0].weight.grad.array == 1).all()
    assert model[0].bias.grad is None
    assert model[1].running_mean is mean
    assert not mean.array.any()
    assert model[1].num_batches_tracked.item() == 0
    assert np.array_equal(state.array, ag.get_rng_state().array)
    assert vertex(graph, "0.weight").gradient.array is not None
    ag.summary(model, x, repeat=1)
    assert not mean.array.any()
    assert model[0].bias.grad is None


def test_a_function_that_runs_its_own_backward_gets_no_other():
    w = ag.ones(2, requires_grad=True)

    def step():
        loss = (w * 2).sum()
        loss.backward()
        return loss

    graph = ag.graph(step)
    assert labels(graph, "backward") == ["sum backward", "mul backward"]
    assert (w.grad.array == 2).all()


def test_recorders_nest_and_stand_beside_other_observers():
    w = ag.ones(2, requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)
    with ag.record() as outer, ag.record() as inner:
        (w * 2).sum().backward()
        optimizer.step()
    for graph in (outer, inner):
        assert labels(graph) == ["mul", "sum", "SGD step"]
        assert labels(graph, "backward") == ["sum backward", "mul backward"]
    assert w.tolist() == [-1, -1]
    with ag.profile(), ag.record() as graph:
        (w * 2).sum().backward()
        optimizer.step()
    assert labels(graph, "backward") == ["sum backward", "mul backward"]
    with ag.record() as graph, ag.profile():
        (w * 2).sum().backward()
    assert labels(graph, "backward") == ["sum backward", "mul backward"]


def test_gradients_of_gradients_know_what_they_belong_to():
    x = ag.ones(2, requires_grad=True)
    with ag.record() as graph:
        y = x.pow(3).sum()
        (slope,) = ag.grad(y, x, create_graph=True)
        slope.pow(2).sum().backward()
    again = vertex(graph, "pow backward backward")
    assert [v.gradient is not None for v in graph.vertices.values() if v.kind == "op"] == [True] * 4
    assert np.array_equal(next(v for v in graph.vertices.values() if v.label == "pow").gradient.array, [1, 1])
    assert graph.vertices[again.forward].label == "pow backward"
    assert np.allclose(x.grad.array, 36)


def test_checkpoints_and_functions_of_the_users_are_single_vertices_of_the_backward():
    class Cube(ag.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * g

    graph = ag.graph(lambda x: Cube.apply(ag.checkpoint(lambda t: t.sin().exp(), x)).sum(),
                     ag.ones(2, requires_grad=True))  # fmt: skip
    assert labels(graph) == ["sin", "exp", "Cube", "sum"]
    assert labels(graph, "backward") == ["sum backward", "Cube backward", "checkpoint backward"]


def test_a_compiled_function_is_a_program_or_what_it_stands_for():
    f = ag.compile(lambda x: (x * 2).sin().sum())
    x = ag.ones(3)
    f(x)
    assert labels(ag.graph(f), "input") == ["x"]
    assert labels(ag.graph(f, x)) == ["mul", "sin", "sum"]
    with ag.record() as graph:
        f(x)
    assert labels(graph) == ["mul", "sin", "sum"]


def test_scopes_that_the_user_names_are_modules():
    def network(x):
        with ag.scope("encoder"):
            x = x.exp()
        with ag.scope("decoder"):
            return x.log()

    graph = ag.graph(network, ag.ones(2))
    assert [(m.path, m.type) for m in graph.modules.values()] == [("encoder", "scope"), ("decoder", "scope")]


def test_a_warm_run_comes_before_the_recorded_one():
    calls = []

    def network(x):
        calls.append(len(calls))
        return x * 2

    assert labels(ag.graph(network, ag.ones(2), warm=True)) == ["mul"]
    assert calls == [0, 1]


def test_without_values_nothing_is_held():
    graph = ag.graph(lambda x: (x * 2).exp().sum(), ag.ones(3, requires_grad=True), values=False)
    assert labels(graph) == ["mul", "exp", "sum"]
    assert all(v.value is None and v.gradient is None for v in graph.vertices.values())


# ---------------------------------------------------------------------------------------------------- statistics


def test_statistics_are_those_of_the_finite_elements():
    found = statistics(np.array([1.0, -3.0, 0.0, np.nan, np.inf], np.float32))
    assert (found["count"], found["nan"], found["inf"], found["zeros"]) == (5, 1, 1, 1)
    assert (found["min"], found["max"]) == (-3, 1)
    assert found["mean"] == pytest.approx(-2 / 3)
    assert found["std"] == pytest.approx(np.std([1, -3, 0]))
    assert found["norm"] == pytest.approx(np.sqrt(10))
    assert found["absolute"] == pytest.approx(4 / 3)
    assert sum(found["histogram"]["counts"]) == 3
    assert found["histogram"]["edges"][0] == -3
    assert found["histogram"]["edges"][-1] == 1


@pytest.mark.parametrize("array", [np.array([1e308, -1e308]), np.array([5e-324, 1e-300]), np.full(3, 2.0),
                                   np.array([True, False]), np.arange(7, dtype=np.int8)], ids=str)  # fmt: skip
def test_statistics_of_odd_arrays_are_finite(array):
    found = statistics(array)
    assert sum(found["histogram"]["counts"]) == array.size
    assert all(np.isfinite(found[k]) for k in ("min", "max", "mean", "std", "norm", "absolute"))


def test_statistics_of_nothing_are_none():
    assert statistics(np.zeros(0))["min"] is None
    assert statistics(np.full(2, np.nan))["histogram"] is None
    assert statistics(np.zeros(2, np.complex64)) is None


def test_a_kept_array_is_copied_when_asked():
    array = np.ones(3)
    kept = Kept(array, 0)
    kept.keep()
    array[:] = 5
    assert (kept.array == 1).all()


# ---------------------------------------------------------------------------------------------------- JSON


def test_the_json_has_its_schema_and_comes_back(lenet, tmp_path):
    graph = lenet[3]
    path = graph.save(tmp_path / "g.json")
    with open(path) as file:
        data = json.load(file)
    assert (data["format"], data["version"]) == ("autograd-core graph", 1)
    assert data["totals"]["parameters"] == graph.parameters
    keys = {n["id"] for n in data["nodes"]}
    assert all(start in keys and end in keys for start, end in data["edges"])
    assert {n["module"] for n in data["nodes"]} <= {None, *[m["id"] for m in data["modules"]]}
    conv = next(n for n in data["nodes"] if n["label"] == "conv2d")
    assert conv["settings"]["stride"] == "(1, 1)"
    assert conv["shapes"] == [[2, 6, 8, 8]]
    assert sum(conv["gradient"]["histogram"]["counts"]) == conv["gradient"]["count"] == 2 * 6 * 8 * 8
    again = ag.load_graph(path)
    assert again.json() == data
    assert again.fingerprint() == graph.fingerprint()
    assert str(again) == str(graph)


def test_values_that_json_does_not_have_are_words():
    graph = ag.graph(lambda x: x / 0, ag.tensor([-1.0, 0.0]))
    (node,) = [n for n in graph.json()["nodes"] if n["kind"] == "op"]
    assert (node["value"]["nan"], node["value"]["inf"], node["value"]["min"]) == (1, 1, None)
    json.dumps(graph.json(), allow_nan=False)


def test_other_files_are_refused(tmp_path):
    for data, word in (({}, "not a graph"), ({"format": "autograd-core graph", "version": 9}, "version 9")):
        (tmp_path / "x.json").write_text(json.dumps(data))
        with pytest.raises(ValueError, match=word):
            ag.load_graph(tmp_path / "x.json")
