"""Gradients: of a scalar function, of a loss by argument and by container, and checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import autodiff as ad
from autodiff import random, tree
from autodiff.testing import check_grads
from tests.cookbook.data import RTOL, close

BY_W = np.array([-0.16965576, -0.8774645, -1.4901344], np.float32)
BY_B = np.array(-0.29227236, np.float32)
LOSS = 3.051939


def test_derivatives_of_tanh_to_third_order(xp):
    first = ad.grad(xp.tanh)
    close(first(2.0), np.array(0.070650935))
    close(ad.grad(first)(2.0), np.array(-0.13621889))
    close(ad.grad(ad.grad(first))(2.0), np.array(0.2526544))


def test_the_random_draw(drawn):
    close(drawn.W, np.array([-0.36838785, -2.275689, 0.01144757]))
    close(drawn.b, np.array(0.8535516))
    assert drawn.W.dtype == drawn.b.dtype == np.float32


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [((), BY_W), ((0,), BY_W), ((1,), BY_B), (((0, 1),), (BY_W, BY_B))],
    ids=["default", "first", "second", "both"],
)
def test_gradient_by_argnums(model, drawn, argnums, expected):
    close(ad.grad(model.loss, *argnums)(drawn.W, drawn.b), expected)


def test_gradient_with_respect_to_a_dict(model, drawn):
    def loss(params):
        return model.loss(params["W"], params["b"])

    close(ad.grad(loss)({"W": drawn.W, "b": drawn.b}), {"W": BY_W, "b": BY_B})


class Container:
    """A class of the user's own, registered as a node below."""

    def __init__(self, weights, bias, name):
        self.weights, self.bias, self.name = weights, bias, name


tree.register_node(
    Container,
    lambda node: ((node.weights, node.bias), node.name),
    lambda name, children: Container(*children, name),
    lambda name: (tree.Attribute("weights"), tree.Attribute("bias")),
)


def test_gradient_with_respect_to_a_registered_container(model, drawn):
    found = ad.grad(lambda p: model.loss(p.weights, p.bias))(Container(drawn.W, drawn.b, "fit"))
    assert (type(found), found.name) == (Container, "fit")
    close((found.weights, found.bias), (BY_W, BY_B))


@tree.register_dataclass(meta_fields=["name"])
@dataclass(frozen=True)
class Parameters:
    W: object
    b: object
    name: str = "fit"


def test_gradient_with_respect_to_a_dataclass(model, drawn):
    found = ad.grad(lambda p: model.loss(p.W, p.b))(Parameters(drawn.W, drawn.b))
    close(found, Parameters(BY_W, BY_B))


def test_value_and_gradient_together(model, drawn):
    value, gradients = ad.value_and_grad(model.loss, (0, 1))(drawn.W, drawn.b)
    close((value, gradients), (np.array(LOSS), (BY_W, BY_B)))


def test_gradients_are_float32(model, drawn):
    value, gradients = ad.value_and_grad(model.loss, (0, 1))(drawn.W, drawn.b)
    assert [x.dtype for x in (value, *gradients)] == [np.float32] * 3


def test_central_differences_in_float32_are_near_the_gradients(model, drawn):
    eps = np.float32(1e-4)
    W, b = drawn.W, drawn.b

    def difference(f):
        return (f(eps / 2) - f(-eps / 2)) / eps

    _, subkey = random.split(drawn.key)
    direction = random.normal(subkey, W.shape)
    direction = direction / np.sqrt(np.vdot(direction, direction))
    by_W, by_b = ad.grad(model.loss, (0, 1))(W, b)
    close(by_b, BY_B)
    close(np.vdot(by_W, direction), np.array(-0.19909099), rtol=4e-6)
    # Losses near 3 are multiples of 2**-22, so a quotient by 1e-4 is one of 0.0024: the figures
    # -0.2956 and -0.1979 are such quotients, and one rounding moves them by that much.
    quantum = 2.0**-22 / 1e-4
    numerical_b = difference(lambda e: model.loss(W, b + e))
    numerical_W = difference(lambda e: model.loss(W + e * direction, b))
    assert abs(numerical_b - -0.2956) <= 1.01 * quantum
    assert abs(numerical_W - -0.1979) <= 1.01 * quantum


def test_check_grads_accepts_the_loss(model, drawn):
    check_grads(model.loss, (drawn.W, drawn.b), order=2)


def test_check_grads_refuses_a_planted_wrong_rule(model, drawn):
    def wrong(W, b):
        return model.loss(W, ad.stop_gradient(b))

    with pytest.raises(AssertionError, match=r"derivative of wrong must agree with differences"):
        check_grads(wrong, (drawn.W, drawn.b), order=2)


def test_the_jitted_gradient_is_the_same(model, drawn):
    found = ad.jit(ad.grad(model.loss, (0, 1)))(drawn.W, drawn.b)
    close(found, (BY_W, BY_B), rtol=RTOL)
