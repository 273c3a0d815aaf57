"""Programs that do the same to every element: `(peer) -> function of arrays`."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # or else a process that is timed from its start would pay for it
    from bench.declare import Peer

#: Rate of interest and volatility of the options, per year.
RATE, VOLATILITY = 0.03, 0.25


def two_operations(peer: Peer) -> Callable[[Any], Any]:
    """Return `x*x + x`."""
    return lambda x: x * x + x


def chain(peer: Peer) -> Callable[[Any], Any]:
    """Return a chain of 21 operations, five of them transcendental."""
    xp = peer.numpy

    def f(x: Any) -> Any:
        y = xp.sin(x) * xp.exp(-x * x) + 2.0 * x
        z = xp.tanh(y) * xp.log1p(x * x) + xp.sqrt(x * x + 1.0)
        return xp.cos(z) * y + z / (1.0 + y * y)

    return f


def function(name: str) -> Callable[[Peer], Callable[[Any], Any]]:
    """Return the program that is one function of the array namespace."""
    return lambda peer: getattr(peer.numpy, name)


def logistic(peer: Peer) -> Callable[[Any], Any]:
    """Return `1 / (1 + exp(-x))` as the library has it."""
    return peer.special.expit


def black_scholes(peer: Peer) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Return the prices of European call and put options: (spot, strike, years) -> (call, put).

    Fischer Black, Myron Scholes, "The Pricing of Options and Corporate Liabilities", 1973,
    equation 13; the put by put-call parity's symmetric form.
    """
    xp, erf = peer.numpy, peer.special.erf

    def normal(x: Any) -> Any:
        return 0.5 + 0.5 * erf(x * sqrt(0.5))

    def prices(spot: Any, strike: Any, years: Any) -> tuple[Any, Any]:
        deviation = VOLATILITY * xp.sqrt(years)
        drift = (RATE + 0.5 * VOLATILITY**2) * years
        d1 = (xp.log(spot / strike) + drift) / deviation
        d2 = d1 - deviation
        discounted = strike * xp.exp(-RATE * years)
        call = spot * normal(d1) - discounted * normal(d2)
        put = discounted * normal(-d2) - spot * normal(-d1)
        return call, put

    return prices
