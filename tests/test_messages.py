"""Errors a person can act on: each names the function, what it got and what it needs, in our words, not NumPy's."""

import traceback

import numpy as np
import pytest

import autograd_core as ag
import nn
import optim

F = nn.functional
x, y = ag.ones(2, 3), ag.ones(4, 5)
picture, kernel = ag.ones(1, 3, 8, 8), ag.ones(4, 3, 3, 3)
weight = nn.Parameter(ag.ones(2, 3))
i = ag.tensor([0, 1])

WRONG = [
    (lambda: x + y, r"add: shapes \[2, 3\] and \[4, 5\] cannot be broadcast .*: sizes \[3, 5\] at dim -1"),
    (lambda: ag.where(x > 0, x, y), r"where: shapes .* cannot be broadcast to a single shape"),
    (lambda: x @ y, r"matmul: the sizes that are summed over differ, got shapes \[2, 3\] and \[4, 5\]"),
    (lambda: x @ y.double(), "matmul: expected all tensors to have the same dtype, got float32, float64"),
    (lambda: x.reshape(4, 4), r"reshape: shape '\[4, 4\]' is invalid for input of size 6"),
    (lambda: x.view(-1, 4), r"view: shape '\[-1, 4\]' is invalid for input of size 6"),
    (lambda: x.sum(5), r"sum: Dimension out of range \(expected to be in range of \[-2, 1\], but got 5\)"),
    (lambda: x.squeeze(4), r"squeeze: Dimension out of range \(expected .* \[-2, 1\], but got 4\)"),
    (lambda: nn.Flatten(3)(x), r"flatten: Dimension out of range .* but got 3"),
    (lambda: x.permute(0, 0), r"permute: dim appears multiple times in the list of dims: \(0, 0\)"),
    (lambda: ag.cat([x, y]), r"cat: .* dimension 1, .* size 3 .* size 5"),
    (lambda: ag.stack([x, y]), r"stack: expects each tensor to be of equal size, got \[\[2, 3\], \[4, 5\]\]"),
    (lambda: ag.cat([x, 3]), "cat: element 1 must be a Tensor, got int"),
    (lambda: x[5], "index 5 is out of bounds for axis 0 with size 2"),
    (lambda: x[ag.tensor([1.5])], r"tensors used as indices must be integers or booleans, got float32\[1\]"),
    (lambda: x.gather(1, i), "gather: index must have as many dimensions as the input, got 1 and 2"),
    (lambda: ag.index_select(x, 0, ag.tensor([5])), "index_select: index 5 is out of bounds for dimension with size 2"),
    (lambda: x.expand(5, 3), r"expand: sizes \[5, 3\] do not fit a tensor of shape \[2, 3\]"),
    (lambda: ag.zeros(-1), r"zeros: .*must not be negative, got \[-1\]"),
    (lambda: ag.full((2,), "a"), "full: fill_value must be a number, got 'a'"),
    (lambda: ag.tensor("abc"), "tensor: cannot make a tensor of strings, needs numbers or booleans"),
    (lambda: ag.tensor(1j), "tensor: cannot make a tensor of complex numbers"),
    (lambda: ag.tensor([[1, 2], [3]]), r"tensor: the sequence is ragged .* needs nested sequences of one shape"),
    (lambda: ag.ones(2, dtype="float99"), "ones: dtype 'float99' is not supported; supported are bool, float16"),
    (lambda: ag.ones(2, device="cuda"), "device: only 'cpu' is available, got 'cuda'"),
    (lambda: ag.topk(x, 9), "topk: k must be between 0 and the 3 elements along dim 1, got 9"),
    (lambda: ag.linalg.inv(x), r"linalg\.inv: expected square matrices, got shape \[2, 3\]"),
    (lambda: ag.linalg.inv(ag.zeros(2, 2)), r"linalg\.inv: .* singular"),
    (lambda: ag.einsum("ij,jk->ik", x, x), "einsum: operand 1 has size 2 for 'j', another has 3"),
    (lambda: ag.sin("a"), "sin: at least one argument must be a Tensor, got input: str"),
    (x.item, r"item: a Tensor with 6 elements \(shape \[2, 3\]\) cannot be converted to a Python number"),
    (lambda: bool(x), r"bool: the truth value of a Tensor with 6 elements \(shape \[2, 3\]\) is ambiguous; use any"),
    (lambda: x.clone().copy_(y), r"copy_: src of shape \[4, 5\] cannot be broadcast to \[2, 3\]"),
    (lambda: ag.ones(2, dtype=ag.int64).add_(1.5), "add_: result type ag.float32 can't be cast to ag.int64 in place"),
    (lambda: ag.bitwise_and(x, x), "bitwise_and: the tensors must be integers or booleans"),
    (lambda: ag.manual_seed("a"), "manual_seed: seed must be an int, got str 'a'"),
    (lambda: F.linear(x, y), r"linear: input must end in the 5 features .* \[4, 5\] takes, got shape \[2, 3\]"),
    (lambda: F.conv2d(picture[:, :2], kernel), r"conv2d: .* needs 3 input channels, got input of shape \[1, 2, 8, 8\]"),
    (lambda: F.conv2d(picture, kernel, padding="sam"), "conv2d: padding must be ints, 'same' or 'valid', got 'sam'"),
    (lambda: F.cross_entropy(x, ag.tensor([0, 5])), "cross_entropy: target 5 is out of bounds for 3 classes"),
    (lambda: F.cross_entropy(x, ag.ones(2)), r"cross_entropy: target must hold class indices .*, got ag\.float32"),
    (lambda: F.l1_loss(x, "a"), "l1_loss: target must be a Tensor, got str"),
    (lambda: F.binary_cross_entropy(9 * x, x), "binary_cross_entropy: all elements of input should be between 0 and 1"),
    (lambda: F.embedding(ag.tensor([7]), x), "embedding: index 7 is out of range for 2 rows"),
    (lambda: F.dropout(x, 1.5), "dropout: the probability p must be between 0 and 1, got 1.5"),
    (lambda: F.layer_norm(x, (4,)), r"layer_norm: input must end in normalized_shape \[4\], got \[2, 3\]"),
    (lambda: F.scaled_dot_product_attention(x, y, y), r"scaled_dot_product_attention: the sizes that are summed over"),
    (lambda: nn.Linear(-1, 2), r"sizes of a parameter must not be negative, got \[2, -1\]"),
    (lambda: nn.Linear(4, 2)(x), r"linear: input must end in the 4 features [^$]*in module: Linear"),
    (lambda: nn.Linear(3, 2)([1, 2, 3]), "linear: arguments must be Tensors, got a list"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: in_channels must be divisible by groups, got 3 and 2"),
    (lambda: nn.LSTM(3, 4)(x[:, :2]), r"LSTM: input.size\(-1\) must be equal to input_size. Expected 3, got 2"),
    (lambda: nn.BatchNorm2d(3)(x), r"BatchNorm2d: expected 4D input \(got 2D input\)"),
    (lambda: nn.Dropout(-1), "Dropout: dropout probability has to be between 0 and 1, but got -1"),
    (lambda: nn.MultiheadAttention(5, 2), "MultiheadAttention: embed_dim must be divisible by num_heads, got 5 and 2"),
    (lambda: nn.Embedding(3, 2, padding_idx=7), "Embedding: padding_idx must be within num_embeddings=3, got 7"),
    (lambda: nn.Sequential(3), "Sequential: int is not a Module subclass"),
    (lambda: nn.CrossEntropyLoss()(x), r"forward\(\) missing 1 required positional argument: 'target'"),
    (lambda: nn.Linear(2, 2).load_state_dict({"weight": y}), r'Missing key.*"bias"(.|\n)*size mismatch for weight'),
    (lambda: nn.init.uniform_(3), "uniform_: tensor must be a Tensor, got int"),
    (lambda: nn.utils.clip_grad_norm_([3], 1.0), "clipping gradients: parameters must be Tensors, got a int"),
    (lambda: nn.utils.vector_to_parameters(ag.ones(3), [weight]), "vector_to_parameters: vec has 3 .* need 6"),
    (lambda: optim.SGD([], lr=0.1), "optimizer got an empty parameter list"),
    (lambda: optim.SGD([weight], lr=-1), r"Invalid learning rate: -1 \(SGD needs lr >= 0\)"),
    (lambda: optim.SGD([np.ones(2)], lr=0.1), "optimizer can only optimize Tensors, but one of the params is ndarray"),
    (lambda: optim.SGD([{"lr": 0.1}], lr=0.1), r"param_group must have the key 'params', got \['lr'\]"),
    (lambda: optim.SGD([weight], lr=1).load_state_dict({}), "load_state_dict: needs the keys 'state' and"),
    (lambda: optim.lr_scheduler.StepLR(3, 5), "int is not an Optimizer"),
    (lambda: nn.data.DataLoader([1, 2], batch_size=0), "got batch_size=0, needs a positive whole number"),
    (lambda: nn.data.default_collate([np.ones(2), np.ones(3)]), r"default_collate: got arrays of shapes \[2\], \[3\]"),
    (lambda: ag.save({"a": x}, "/nonexistent/file"), "cannot write file: the folder /nonexistent does not exist"),
    (lambda: ag.from_numpy([1]), "from_numpy: expected an np.ndarray, got list"),
]  # fmt: skip

NUMPYS_WORDS = ("gufunc", "operands could not be", "setting an array element", "invalid literal", "not understood",
                "object has no attribute", "Traceback")  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[m[:40] for _, m in WRONG])
def test_messages(call, message):
    with pytest.raises(
        (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError, OSError), match=message
    ) as caught:
        call()
    assert not any(words in str(caught.value) for words in NUMPYS_WORDS)
    assert caught.value.__cause__ is None or not str(caught.value.__cause__).startswith("gufunc")


# ---------------------------------------------------------------------------------------------------- places


def message_of(call):
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)) as caught:
        call()
    error = caught.value
    return str(error) + "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))


OTHERS = ("ones: dtype", "device", "manual_seed", "sizes of", "Conv2d", "Dropout", "Multi", "Embedding:", "Sequential",
          "forward", "Missing", "uniform_", "clipping", "vector_to", "optim", "Invalid", "param_group", "load_state",
          "int is", "got batch", "default_coll", "cannot write")  # fmt: skip
"""What constructors, optimizers, loaders and files say: there the call itself is what is wrong."""

ENGINE = [call for call, message in WRONG if not message.startswith(OTHERS)]


@pytest.mark.parametrize("call", ENGINE, ids=range(len(ENGINE)))
def test_every_error_of_an_operation_names_the_users_line(call):
    assert "test_messages.py" in message_of(call)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x):
        return self.encoder(x)


def test_operation_arguments_module_line_and_origin():
    text = message_of(lambda: Net()(x))
    assert text.startswith(
        "linear: input must end in the 5 features that weight of shape [2, 5] takes, got shape [2, 4]"
    )
    assert "\n  arguments: input float32[2, 4], weight float32[2, 5], bias float32[2]\n" in text
    assert "\n  in module: encoder.2\n" in text
    assert "return self.encoder(x)" in text
    assert "\n  argument 0 comes from relu in module encoder.1, made at " in text


def test_errors_in_backward_name_the_line_of_the_forward():
    class Wrong(ag.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g + ag.ones(7)

    w = ag.ones(3, requires_grad=True)

    def step():
        loss = Wrong.apply(w).sum()
        loss.backward()

    text = message_of(step)
    assert "add: shapes [3] and [7] cannot be broadcast" in text
    assert "return g + ag.ones(7)" in text
    assert "in the gradient of Wrong, made at " in text
    assert "loss = Wrong.apply(w).sum()" in text


def test_a_gradient_rule_that_fails(monkeypatch):
    monkeypatch.setattr(ag.sin.record, "vjp", [lambda g, input: g * np.ones(17, np.float32)])
    monkeypatch.setattr(ag.sin.record, "plans", {})
    w = ag.ones(3, requires_grad=True)

    def step():
        loss = w.sin().sum()
        loss.backward()

    text = message_of(step)
    assert text.startswith("gradient of sin: shapes [3] and [17] cannot be broadcast")
    assert "arguments: gradient float32[3]; inputs that want one: float32[3]" in text
    assert "loss.backward()" in text
    assert "in the gradient of sin, made at" in text
    assert "loss = w.sin().sum()" in text


def test_a_graph_that_was_freed_names_the_line_that_made_it():
    w = ag.ones(3, requires_grad=True)
    with ag.scope("head"):
        loss = w.exp().sum()
    loss.backward()
    text = message_of(loss.backward)
    assert "the first to miss them: exp in module head, made at" in text
    assert "loss = w.exp().sum()" in text


def test_in_place_errors_name_both_lines():
    w, value = ag.ones(3, requires_grad=True), ag.ones(4)
    product = w * value[:3]
    value[1] = 5
    text = message_of(product.sum().backward)
    assert "input float32[3] of mul, made at" in text
    assert "product = w * value[:3]" in text
    assert "changed at" in text
    assert "value[1] = 5" in text
    assert "noticed at" in text
    result = w.exp()
    result.mul_(2)
    text = message_of(result.sum().backward)
    assert "output float32[3] of exp" in text
    assert "result.mul_(2)" in text


def test_parts_that_do_not_overlap_raise_no_alarm():
    w, value = ag.ones(3, requires_grad=True), ag.ones(4, 6)
    loss = (w * value[0, ::2]).sum() + (w * value[2, :3]).sum()
    value[0, 1::2] = 7
    value[1] = 7
    value[2, 3:].add_(1)
    value[3].zero_()
    loss.backward()
    assert w.grad.tolist() == [2, 2, 2]


def test_what_numpy_says_is_not_shown():
    for call in (lambda: x @ y, lambda: x + y, lambda: ag.cat([x, ag.ones(2)]), lambda: ag.linalg.inv(ag.zeros(2, 2))):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            call()
        shown = "".join(traceback.format_exception(caught.value))
        assert not any(words in shown for words in (*NUMPYS_WORDS[:-1], "direct cause", "During handling"))


def test_what_the_users_own_rule_says_is_shown():
    """The line of a record of the user's that fails is what its author needs to see."""

    def rule(g, input):
        return g * np.ones(17)

    record = ag.cos.record
    before, plans = record.vjp, record.plans
    record.vjp, record.plans = [rule], {}
    try:
        loss = ag.ones(3, requires_grad=True).cos().sum()
        with pytest.raises(ag.OpError) as caught:
            loss.backward()
    finally:
        record.vjp, record.plans = before, plans
    assert "return g * np.ones(17)" in "".join(traceback.format_exception(caught.value))
