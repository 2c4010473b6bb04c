"""A traced network with replaced filters answers as the network itself with the same filters would."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.prune import random_unstructured

from mkfa.errors import MkfaError
from mkfa.grafts.asking import calibrate, share
from mkfa.grafts.program import build_program

CPU = torch.device("cpu")


class Block(nn.Module):
    """Inverted residual: in-place activations, a skip, batch norm after every convolution."""

    def __init__(self, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.body = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, 2 * width, kernel, stride, kernel // 2, groups=2 * width, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        if self.stride > 1:
            return y
        y += x
        return y


def small_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        Block(8, 3),
        Block(8, 5),
        Block(8, 3, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 6),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


class Branching(nn.Module):
    """A network that torch.fx cannot trace: what it does depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x if x.sum() > -1e9 else -x)


NAMES = ["3.body.3", "4.body.3", "5.body.3"]


def with_filters(network, names, weights):
    network = copy.deepcopy(network).eval()
    for name, weight in zip(names, weights, strict=True):
        if weight is not None:
            network.get_submodule(name).weight.data = weight
    return network


@pytest.mark.parametrize(("network", "prefix", "traced"), [(small_network(), "", True), (Branching(), "inner.", False)])
def test_replaced_filters_give_the_answers_of_a_network_that_has_them(network, prefix, traced):
    images = torch.randn(4, 3, 16, 16)
    names = [prefix + name for name in NAMES]
    before = copy.deepcopy(network.state_dict())
    program = build_program(network, names, device=CPU, example=images)
    assert program.traced is traced and list(program.names) == names
    new = [torch.randn_like(weight) for weight in program.own]
    for weights in ([None] * 3, new, [new[0], None, new[2]], [None, new[1], None], [None] * 3):
        expected = with_filters(network, names, weights)(images).detach()
        torch.testing.assert_close(program.run(images, weights)[0], expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_going_on_from_a_state_gives_the_same_bits_as_starting_over():
    """In-place operations after the cut must not change what another variant goes on from."""
    network, images = small_network(), torch.randn(4, 3, 16, 16)
    program = build_program(network, NAMES, device=CPU, example=images)
    first, second = ([torch.randn_like(weight) for weight in program.own] for _ in range(2))
    _, states, _ = program.run(images, first, keep=frozenset({0, 1, 2}))
    for layer in (0, 1, 2, 1):
        for tail in (second, first, [None] * 3):
            weights = [*first[:layer], *tail[layer:]]
            again, _, _ = program.run(images, weights, state=states[layer])
            assert torch.equal(again, program.run(images, weights)[0])


def test_modules_out_of_order_are_put_in_order_of_execution():
    images = torch.randn(2, 3, 16, 16)
    program = build_program(small_network(), NAMES[::-1], device=CPU, example=images)
    assert list(program.names) == NAMES
    assert [weight.shape[-1] for weight in program.own] == [3, 5, 3]


def test_statistics_of_one_batch_are_those_of_torch_in_training_mode():
    network, images = small_network(), torch.randn(6, 3, 16, 16)
    program = build_program(network, NAMES, device=CPU, example=images)
    new = [torch.randn_like(weight) for weight in program.own]
    weight_of = lambda layer, number: new[layer][:, 0].numpy()  # noqa: E731
    found = calibrate(
        program,
        [(0, 0, 0), (1, 1, 1), (1, 0, 0)],
        weight_of,
        batches=[(list(range(6)), images)],
        advance=lambda _: None,
    )
    for statistics, weights in zip(found, ([None] * 3, new, [new[0], None, None]), strict=True):
        trained = with_filters(network, NAMES, weights)
        norms = [m for m in trained.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        trained.train()(images)
        for (mean, var), norm in zip(statistics, norms, strict=True):
            torch.testing.assert_close(mean, norm.running_mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(var, norm.running_var, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            program.run(images, weights, statistics=statistics)[0],
            trained.eval()(images).detach(),
            rtol=1e-3,
            atol=1e-4,
        )


def test_statistics_of_several_batches_are_those_of_all_images_in_the_first_layer():
    network, images = small_network(), 3 * torch.randn(12, 3, 16, 16) + torch.arange(12.0).view(-1, 1, 1, 1)
    program = build_program(network, NAMES, device=CPU, example=images)
    batches = [(list(range(0, 6)), images[:6]), (list(range(6, 12)), images[6:])]
    ((mean, var), *_), *_ = calibrate(program, [(0, 0, 0)], None, batches=batches, advance=lambda _: None)
    out = network[0](images).detach()
    torch.testing.assert_close(mean, out.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(var, out.var((0, 2, 3)), rtol=1e-2, atol=1e-3)


def test_the_order_of_variants_computes_each_shared_beginning_once():
    keys = [(0, 0, 0), (1, 1, 1), (1, 0, 0), (1, 1, 0), (0, 0, 2), (2, 2, 2)]
    computed, kept = set(), {}
    for step in share(keys):
        key = keys[step.variant]
        kept = {layer: known for layer, known in kept.items() if layer <= step.resume}
        if step.resume or kept:
            assert kept[step.resume] == key[: step.resume]  # the state is there, and is of the same filters
        for layer in range(step.resume, 3):
            assert key[: layer + 1] not in computed
            computed.add(key[: layer + 1])
        kept |= {layer: key[:layer] for layer in step.keep}
    assert {step.variant for step in share(keys)} == set(range(len(keys)))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4)), "where logits"),
        (nn.Sequential(nn.Conv2d(5, 4, 1), nn.Conv2d(4, 4, 3, groups=4)), "does not take images of 3x16x16"),
    ],
)
def test_a_network_that_does_not_classify_such_images_is_refused(network, says):
    with pytest.raises(MkfaError, match=says):
        build_program(network, ["1"], device=CPU, example=torch.randn(2, 3, 16, 16))


def test_computed_weights_become_plain_ones():
    network = small_network()
    nn.utils.parametrizations.weight_norm(network.get_submodule(NAMES[0]))
    random_unstructured(network.get_submodule(NAMES[1]), "weight", 0.5)
    images = torch.randn(2, 3, 16, 16)
    program = build_program(network, NAMES, device=CPU, example=images)
    torch.testing.assert_close(program.run(images, [None] * 3)[0], network(images).detach(), rtol=1e-4, atol=1e-4)
