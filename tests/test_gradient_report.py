"""ag.gradient_report: right gradients pass on every kind of computation, wrong ones are named, sizes are judged."""

import importlib.util

import numpy as np
import pytest
from subjects import SUBJECTS, arrays_of, without_kernels  # noqa: F401 (a fixture that every test here uses)

import autograd_core as ag
import nn
import optim
from autograd_core.seeing import references
from autograd_core.seeing.calls import Calls, wrong_rule

F = nn.functional


@pytest.fixture
def broken(monkeypatch):
    """Break the gradient rule of an operation."""

    def breaking(name, rules):
        record = getattr(ag, name).record
        monkeypatch.setattr(record, "vjp", rules)
        monkeypatch.setattr(record, "plans", {})

    return breaking


def small():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (ag.randn(5, 3), ag.randn(5, 2))


# ---------------------------------------------------------------------------------------------------- right and wrong


@pytest.mark.parametrize("name", SUBJECTS)
def test_right_gradients(name):
    model, loss_fn, x, y = SUBJECTS[name]()
    before, drawn = arrays_of(model), ag.get_rng_state().tolist()
    report = ag.gradient_report(model, loss_fn, (x, y), reference=False)
    assert report.ok, report
    assert [row.name for row in report.parameters] == [n for n, _ in model.named_parameters()]
    assert all(row.error < 1e-5 for row in report.parameters)
    assert all(row.gradient_norm > 0 for row in report.parameters)
    after = arrays_of(model)
    assert all(np.array_equal(before[k], after[k]) for k in before), "running statistics are left alone"
    assert all(p.grad is None for p in model.parameters())
    assert ag.get_rng_state().tolist() == drawn
    assert model.training


def test_gradients_are_the_ones_of_backward():
    model, (x, y) = small()
    report = ag.gradient_report(model, F.mse_loss, (x, y), reference=False)
    loss = F.mse_loss(model(x), y)
    loss.backward()
    assert report.loss == pytest.approx(loss.item())
    for row, parameter in zip(report.parameters, model.parameters(), strict=True):
        assert row.gradient_norm == pytest.approx(float(np.linalg.norm(parameter.grad.numpy())), rel=1e-5)
        assert row.weight_norm == pytest.approx(float(np.linalg.norm(parameter.detach().numpy())), rel=1e-5)
        assert row.update == pytest.approx(0.01 * row.gradient_norm / row.weight_norm)


@pytest.mark.parametrize("name", ["transformer", "branching", "lstm"])
def test_a_broken_rule_is_named(name, broken):
    operation, rules = {
        "transformer": ("softmax", [lambda g, out, dim: out * g]),
        "branching": ("sin", [lambda g, input: g * input]),
        "lstm": ("transpose", None),
    }[name]
    model, loss_fn, x, y = SUBJECTS[name]()
    if rules is None:  # a wrong rule in a layer of the user's own

        class Wrong(ag.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, g):
                return g * 2.1

        operation, layer = "Wrong", model.fc.forward
        model.fc.forward = lambda h: layer(Wrong.apply(h))
    else:
        broken(operation, rules)
    report = ag.gradient_report(model, loss_fn, (x, y), reference=False)
    assert not report.ok
    assert report.check.wrong.call.name == operation
    assert f"the rule of {operation} for" in report.problems[1]
    assert "test_gradient_report.py" in report.problems[1] or "subjects.py" in report.problems[1]
    assert "WRONG: the gradient disagrees with central differences" in str(report)


def test_the_first_of_several_wrong_rules_is_named(broken):
    broken("exp", [lambda g, out: g])
    broken("tanh", [lambda g, out: g * (1 - out)])
    model, data = small()
    report = ag.gradient_report(
        lambda x: model(x).exp(), F.mse_loss, (data[0].requires_grad_(), data[1]), reference=False
    )
    wrong = report.check.wrong
    assert wrong.call.name == "tanh"
    assert wrong.call.scope == "1"
    assert "the rule of tanh for input is wrong in module 1" in str(wrong)


def test_a_detach_is_not_blamed_on_an_operation():
    x = ag.randn(3, requires_grad=True)
    report = ag.gradient_report(lambda x: x * x.detach(), F.mse_loss, (x, ag.ones(3)), reference=False)
    assert not report.ok
    assert report.check.wrong is None
    assert "no operation's own rule is wrong at these values: look for a detach" in report.problems[1]


def test_kinks_are_not_blamed():
    """relu at 0 and max of equal values have no derivative to compare with."""
    x = ag.zeros(4, dtype=ag.float64, requires_grad=True)
    with Calls() as watcher:
        (x.relu() + x.amax() + x.abs()).sum().backward()
    assert [call.name for call in watcher.calls if "relu" in call.name or "amax" in call.name]
    assert all(wrong_rule(call) is None for call in watcher.calls)


# ---------------------------------------------------------------------------------------------------- sizes


def test_vanishing_and_exploding_layers():
    deep = nn.Sequential(*[layer for _ in range(10) for layer in (nn.Linear(6, 6), nn.Sigmoid())])
    report = ag.gradient_report(deep, F.mse_loss, (ag.randn(4, 6), ag.randn(4, 6)), check=False, reference=False)
    assert report.check is None
    assert report.parameters[0].remark.startswith("vanishing: its gradient is ")
    assert report.parameters[-2].remark == ""
    steep = nn.Sequential(*[nn.Linear(6, 6) for _ in range(6)])
    for layer in steep:
        layer.weight.data = layer.weight.data * 30
    data = ag.randn(4, 6), ag.randn(4, 6)
    report = ag.gradient_report(steep, lambda o, t: (o * t).mean(), data, check=False, reference=False)
    assert any(problem.startswith("0.bias: exploding: its gradient is ") for problem in report.problems)


def test_what_only_has_another_scale_is_no_problem():
    model = nn.Sequential(nn.Embedding(50, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    model[2].weight.data = model[2].weight.data * 1e-4
    model[2].bias.data = model[2].bias.data + 1e4  # beside it, the first bias moves as much
    x, y = ag.tensor([[1, 2]]), ag.randn(1, 2, 6)
    report = ag.gradient_report(model, lambda o, t: (o * t).mean(), (x, y), check=False, reference=False)
    assert {row.name: row.remark for row in report.parameters}["1.bias"] == ""
    table = report.parameters[0]
    assert (table.dead, table.units) == (48, 50)
    assert "units" not in table.remark, "rows that no index asked for"


def test_gradients_over_the_steps_of_a_recurrence():
    model, loss_fn, x, y = SUBJECTS["lstm"]()
    report = ag.gradient_report(model, loss_fn, (x, y), check=False, reference=False)
    (row,) = report.repeated
    assert row.count == 40
    assert row.remark.startswith("vanishing: over 40 steps back the gradient falls from ")
    layer = nn.LSTM(3, 4)
    report = ag.gradient_report(layer, lambda o, t: F.mse_loss(o[0][-1], t), (x, ag.randn(2, 4)), check=False,
                                reference=False)  # fmt: skip
    assert report.repeated[0].name.startswith("steps of lstm_layer")
    assert report.repeated[0].first < report.repeated[0].last


def test_dead_units_and_unused_parameters():
    model, data = small()
    model[1] = nn.ReLU()
    model[0].bias.data = ag.tensor([-100.0, -100, -100, 1])
    model.unused = nn.Parameter(ag.ones(2))
    model.forward = lambda x: model[2](model[1](model[0](x)))
    report = ag.gradient_report(model, F.mse_loss, data, reference=False)
    rows = {row.name: row for row in report.parameters}
    assert (rows["0.weight"].dead, rows["0.weight"].units) == (3, 4)
    assert rows["0.weight"].remark == "3 of 4 units get no gradient"
    assert rows["unused"].remark == "gets no gradient: the loss does not depend on it"
    assert report.ok


def test_a_loss_that_is_not_finite():
    x = ag.tensor([0.0, 1.0], requires_grad=True)
    report = ag.gradient_report(lambda x: x.log(), lambda o, t: o.sum(), (x, None), check=False, reference=False)
    assert "the loss is -inf: ag.debug() says where that comes from" in report.problems
    assert report.parameters[0].remark == "the gradient is not finite"


def test_updates_of_an_optimizer():
    """The real update, which leaves the parameters and the state of the optimizer as they were."""
    model, data = small()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    F.mse_loss(model(data[0]), data[1]).backward()
    optimizer.step()
    before, state = arrays_of(model), optimizer.state_dict()
    report = ag.gradient_report(model, F.mse_loss, data, optimizer=optimizer, check=False, reference=False)
    assert all(np.array_equal(before[k], v) for k, v in arrays_of(model).items())
    assert str(optimizer.state_dict()) == str(state)
    assert "update: size of an update by Adam over that of the parameter" in str(report)
    optimizer.zero_grad()
    F.mse_loss(model(data[0]), data[1]).backward()
    optimizer.step()
    for row, (name, parameter) in zip(report.parameters, model.named_parameters(), strict=True):
        step = np.linalg.norm(parameter.detach().numpy() - before[name]) / row.weight_norm
        assert row.update == pytest.approx(step, rel=1e-4)


# ---------------------------------------------------------------------------------------------------- forms


def test_text_markdown_html_and_pictures(tmp_path):
    model, data = small()
    report = ag.gradient_report(model, F.mse_loss, data, reference=False)
    text = str(report)
    assert text.startswith("gradients of Sequential: loss ")
    assert "right: largest relative error against central differences" in text
    assert max(map(len, text.splitlines())) < 130
    for ending, start in (("md", "# Gradients of Sequential"), ("html", "<!doctype html>"), ("txt", "gradients of")):
        report.save(tmp_path / f"report.{ending}")
        assert (tmp_path / f"report.{ending}").read_text().startswith(start)
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    assert "0.weight" in page
    assert "| 0.weight | 4x3 |" in report.markdown()
    with pytest.raises(ValueError, match=r"save: the ending must be md, html, txt, png, svg or pdf, got .*report\.doc"):
        report.save(tmp_path / "report.doc")


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="the plots need matplotlib")
def test_plots(tmp_path):
    model, data = small()
    report = ag.gradient_report(model, F.mse_loss, data, check=False, reference=False)
    report.save(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in report.html()


def test_the_command_line_writes_it(tmp_path, capsys, broken):
    from nn.cli import main

    assert main(["check", "xor", "--report", str(tmp_path / "xor.md")]) == 0
    assert (tmp_path / "xor.md").read_text().startswith("# Gradients of XorNet")
    broken("sigmoid", [lambda g, out: g * out])
    assert main(["check", "xor"]) == 1
    assert "the rule of sigmoid for input is wrong: " in capsys.readouterr().err


def test_several_inputs_frozen_parameters_and_what_is_refused():
    double = nn.Bilinear(2, 3, 1)
    double.bias.requires_grad_(False)
    report = ag.gradient_report(double, F.mse_loss, ((ag.randn(4, 2), ag.randn(4, 3)), ag.randn(4, 1)), reference=False)
    assert report.ok
    assert [row.name for row in report.parameters] == ["weight"]
    with pytest.raises(TypeError, match=r"gradient_report: data must be \(inputs, target\), got Tensor"):
        ag.gradient_report(double, F.mse_loss, ag.ones(2))
    with pytest.raises(ValueError, match="no parameter of the model, and no input, requires grad"):
        ag.gradient_report(ag.exp, F.mse_loss, (ag.ones(2), ag.ones(2)))
    with pytest.raises(ValueError, match=r"loss_fn must return a tensor of one element, got \[4, 2\]"):
        ag.gradient_report(nn.Linear(2, 2), lambda o, t: o, (ag.ones(4, 2), None))


# ---------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.skipif(not references.is_installed(), reason="PyTorch, which is only compared with, is not installed")
@pytest.mark.parametrize("name", SUBJECTS)
def test_beside_pytorch(name):
    model, loss_fn, x, y = SUBJECTS[name]()
    report = ag.gradient_report(model, loss_fn, (x, y), check=False)
    found = report.worst()
    assert found
    for operation, _, value, gradient in found:
        assert value < 300, (operation, value)
        assert (gradient or 0) < 300, (operation, gradient)
    missing = {row.call.name for row in report.reference if row.value is None}
    assert not missing, missing
    assert "Beside PyTorch" in str(report)


def test_distances_in_ulp():
    one = np.ones(4, np.float32)
    assert references.ulps(one, one) == 0
    assert references.ulps(np.nextafter(one, np.float32(2)), one) == 1
    assert references.ulps(np.array([np.nan, 1], np.float32), np.array([np.nan, 1], np.float32)) == 0
    assert references.ulps(np.array([np.inf, 1], np.float32), np.array([1, 1], np.float32)) == np.inf
