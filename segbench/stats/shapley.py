"""Exact Shapley values of a game with few players.

L. S. Shapley, A value for n-person games, Contributions to the Theory of Games II, Princeton 1953: the mean of what a
player adds, over all orders in which the players may come. Of n players' orders, the share in which exactly the
coalition S comes before a player is |S|! (n - |S| - 1)! / n!.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def shapley(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """worth: (2ⁿ, …), the worth of each coalition; bit k of its index says whether player k takes part. Returns (n, …),
    which sum over the players to the worth of all minus that of none, up to rounding.

    Raises ValueError if the number of coalitions is no power of two.
    """
    players = len(worth).bit_length() - 1
    if len(worth) != 1 << players:
        raise ValueError(f"{len(worth)} coalitions; expected a power of two")
    coalitions = np.arange(len(worth))
    others = np.array([bin(coalition).count("1") for coalition in coalitions])
    orders = np.array([math.factorial(s) * math.factorial(max(players - s - 1, 0)) for s in others], np.float64)
    share = (orders / math.factorial(players)).reshape(-1, *(1,) * (worth.ndim - 1))
    values = np.zeros((players, *worth.shape[1:]))
    for player in range(players):
        without = coalitions[coalitions >> player & 1 == 0]
        values[player] = (share[without] * (worth[without | 1 << player] - worth[without])).sum(0)
    return values
