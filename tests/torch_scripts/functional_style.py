"""Functions of one's own, derivatives of derivatives, per-sample gradients, hooks, parametrisations, averages."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Function, gradcheck
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.utils import parameters_to_vector, parametrizations, vector_to_parameters
from torch.optim.swa_utils import AveragedModel

torch.manual_seed(0)


class MyReLU(Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.clamp(min=0)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input < 0] = 0
        return grad_input


class Power(Function):
    @staticmethod
    def forward(ctx, x, exponent):
        ctx.exponent = exponent
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        return x**exponent

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if g is None or not ctx.needs_input_grad[0]:
            return None, None
        return g * ctx.exponent * x ** (ctx.exponent - 1), None


assert gradcheck(MyReLU.apply, (torch.randn(4, 3, dtype=torch.double, requires_grad=True),), eps=1e-6, atol=1e-4)
assert gradcheck(lambda x: Power.apply(x, 3), (torch.rand(5, dtype=torch.float64, requires_grad=True),))

# a polynomial fitted by hand, then with LBFGS
x = torch.linspace(-math.pi, math.pi, 200)
y = torch.sin(x)
weights = torch.randn((), requires_grad=True), torch.randn((), requires_grad=True)
for t in range(50):
    loss = (weights[0] * x + weights[1] * x**3 - y).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        for w, rate in zip(weights, (1e-2, 1e-4)):
            w -= rate * w.grad
            w.grad = None
p = torch.tensor([1, 2, 3])
features = x.unsqueeze(-1).pow(p)
model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=1, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = F.mse_loss(model(features), y)
    loss.backward()
    return loss


for _ in range(5):
    loss = optimizer.step(closure)
print(f"y = {model[0].bias.item():.3f} + {model[0].weight[:, 0].item():.3f} x, loss {loss.item():.4f}")
assert closure() < 0.01

# gradient penalty: a gradient inside the loss
critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
points = torch.randn(16, 2, requires_grad=True)
gradients = torch.autograd.grad(outputs=critic(points), inputs=points, grad_outputs=torch.ones(16, 1), create_graph=True,
                                retain_graph=True, only_inputs=True)[0]
penalty = ((gradients.norm(2, dim=1) - 1) ** 2).mean()
penalty.backward()
assert critic[0].weight.grad.abs().sum() > 0

# per-sample gradients
params = {k: v.detach() for k, v in critic.named_parameters()}


def sample_loss(params, sample):
    return functional_call(critic, params, (sample.unsqueeze(0),)).pow(2).sum()


each = vmap(grad(sample_loss), in_dims=(None, 0))(params, points.detach())
whole = grad(lambda p: sum(sample_loss(p, s) for s in points.detach()))(params)
assert each["0.weight"].shape == (16, 8, 2)
assert torch.allclose(each["0.weight"].sum(0), whole["0.weight"], atol=1e-5)
J = jacrev(lambda v: v**2 * 3)(torch.tensor([1.0, 2.0]))
assert torch.equal(J, torch.diag(torch.tensor([6.0, 12.0])))
H = torch.autograd.functional.hessian(lambda v: (v**3).sum(), torch.tensor([1.0, 2.0]))
assert torch.allclose(H, torch.diag(torch.tensor([6.0, 12.0])))

# hooks
seen = {}
handle = critic[0].register_forward_hook(lambda module, args, output: seen.update(activation=output.detach()))
backward = critic[1].register_full_backward_hook(lambda module, gi, go: seen.update(gradient=go[0]))
h = critic(torch.randn(3, 2))
h.register_hook(lambda g: g * 2)
h.sum().backward()
handle.remove()
backward.remove()
assert seen["activation"].shape == (3, 8)
assert seen["gradient"].shape == (3, 8)

# parameters in other clothes
layer = parametrizations.weight_norm(nn.Linear(4, 3))
spectral = parametrizations.spectral_norm(nn.Linear(4, 3))
spectral.train()
for _ in range(20):
    spectral(torch.randn(2, 4))
assert torch.linalg.matrix_norm(spectral.weight, 2) < 1.05
assert set(dict(layer.named_parameters())) == {"bias", "parametrizations.weight.original0", "parametrizations.weight.original1"}
vector = parameters_to_vector(critic.parameters())
vector_to_parameters(torch.zeros_like(vector), critic.parameters())
assert not any(p.any() for p in critic.parameters())
average = AveragedModel(critic, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
average.update_parameters(critic)
assert int(average.n_averaged) == 1
