"""The limits that the tables of a protocol share, and their checks. Each raises ValueError with the rule."""

from __future__ import annotations

from segbench.core.tables import Scalar, is_number, require, shown

SMALLEST_SIDE = 32  # pixels: the coarsest feature map of the networks is a 32nd of the image
LARGEST_SIDE = 4096
LARGEST_COUNT = 1_000_000  # of trials, epochs, images
LARGEST_SEED = 2**32 - 1  # the limit of NumPy's RandomState, from which Optuna draws


def require_rate(name: str, value: Scalar, above_zero: bool = False) -> None:
    """A number of 0 or more; above 0 if `above_zero`."""
    good = is_number(value) and (float(value) > 0 or (value == 0 and not above_zero))
    require(good, f"{name} must be a number {'above 0' if above_zero else 'of 0 or more'}, not {shown(value)}")


def require_count(name: str, count: int) -> None:
    """1..LARGEST_COUNT."""
    require(count >= 1, f"{name} must be at least 1, not {count}")
    require(count <= LARGEST_COUNT, f"{name} must be at most {LARGEST_COUNT}, not {count}")


def require_seed(name: str, seed: int) -> None:
    """0..LARGEST_SEED."""
    require(0 <= seed <= LARGEST_SEED, f"{name} must be 0..{LARGEST_SEED}, not {seed}")


def require_size(size: tuple[int, int], name: str = "size") -> None:
    """(height, width) in pixels, each side SMALLEST_SIDE..LARGEST_SIDE."""
    fits = all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in size)
    require(fits, f"{name} must be {SMALLEST_SIDE}..{LARGEST_SIDE} pixels a side, not {list(size)}")
