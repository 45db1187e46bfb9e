"""Floating-point operations, and what the element-wise ones count for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

# Operations for an element. A function such as exp, erf or a random number is one, as in the
# official flops_computation.py; all of these together are a few percent of a network's.
DROPOUT = 4  # draw, compare, multiply by the mask, scale
LAYER_NORM = 5  # sum, square and sum, shift, scale
GELU = 5  # erf of the scaled input, plus 1, times half the input
SOFTMAX = 5  # maximum, subtract, exp, sum, divide
CROSS_ENTROPY = 2  # a product with the one-hot target, and its sum

# A petaflop/s-day: 10^15 operations a second for a day (Amodei and Hernandez 2018).
PFS_DAY = 1e15 * 24 * 60 * 60


@dataclasses.dataclass(frozen=True)
class Flops:
    """The operations of a forward pass, told apart by what the backward pass makes of them.

    Attributes:
        products: in matrix products, a multiplication and an addition each: m x k times k x n
            takes 2 m k n.
        elementwise: in everything else.
    """

    products: float = 0.0
    elementwise: float = 0.0

    @property
    def forward(self) -> float:
        """Operations of the forward pass."""
        return self.products + self.elementwise

    @property
    def backward(self) -> float:
        """Operations of the backward pass.

        A product y = x w needs two of its size there, for the gradients of x and of w; what is done
        element by element takes about as much again.
        """
        return 2 * self.products + self.elementwise

    @property
    def training(self) -> float:
        """Operations of both passes."""
        return self.forward + self.backward

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.products + other.products, self.elementwise + other.elementwise)

    def __mul__(self, times: float) -> Flops:
        return Flops(self.products * times, self.elementwise * times)


def total(parts: Iterable[Flops]) -> Flops:
    """Returns the sum of some parts."""
    return sum(parts, Flops())


def dense(inputs: int, outputs: int) -> Flops:
    """Returns the operations of a dense layer with a bias for one position."""
    return Flops(2 * inputs * outputs, outputs)
