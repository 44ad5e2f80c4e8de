"""The learning rate as a function of the step: no scheduler, so a checkpoint holds none, and resuming is exact."""

from __future__ import annotations

import math

from segbench.core.recipe import Recipe


def factor(recipe: Recipe, step: int, steps: int) -> float:
    """What the learning rate is multiplied by in step `step`, 0 … steps - 1, of a training of `steps` steps.

    With s = step / steps: "poly" is (1 - s)^power (Chen et al., arXiv 1606.00915, section 4.2), "cosine" is
    (1 + cos(πs)) / 2 (Loshchilov and Hutter, arXiv 1608.03983, without restarts). The first `warmup` of all steps also
    rise linearly: step k of them by k / number, k = 1 … number (Goyal et al., arXiv 1706.02677, section 2.2).
    """
    share = step / steps
    decayed = {
        "constant": 1.0,
        "poly": math.pow(1 - share, recipe.power),
        "cosine": (1 + math.cos(math.pi * share)) / 2,
    }[recipe.schedule]
    rising = recipe.warmup * steps
    return decayed * min(1.0, (step + 1) / rising) if rising else decayed


def require_steps(recipe: Recipe, steps: int) -> None:
    """Raises ValueError if a training of `steps` steps is too short for the recipe to mean anything."""
    lasts = f"this training has {steps} step{'s' if steps != 1 else ''}"
    if steps < 2 and recipe.schedule != "constant":
        raise ValueError(f'schedule = "{recipe.schedule}" needs at least 2 steps; {lasts}')
    if steps < 2 and recipe.ema:
        raise ValueError(f"ema averages over steps and needs at least 2; {lasts}")
    if 0 < recipe.warmup * steps < 1:
        raise ValueError(f"warmup = {recipe.warmup:g} is less than one step; {lasts}: raise it to {1 / steps:.2g} or 0")
