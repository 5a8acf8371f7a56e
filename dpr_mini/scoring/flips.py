"""Sign-flip permutation test: is the mean of paired differences zero?

Under the null a difference is as likely as its opposite, so the mean is compared with the means under all choices of
signs (Fisher 1935, section 21; Good, Permutation Tests, 2000, section 3.2). It tests what the interval is of, the mean;
the sign test asks whether more rise than fall and throws the size away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ENUMERATED = 2**12  # choices of signs that are all tried
GRIDS = 960  # common denominators that are looked for: those of rates from any two numbers of draws up to 32
GRID_STEPS = 400_000  # of the sum of all sizes: above, the exact distribution takes too long
DRAWS = 9_999  # Monte Carlo otherwise: p is at least 1 / (DRAWS + 1)
CLOSE = 1e-9  # sums that differ by rounding are equal


def flip_test(differences: Sequence[float]) -> float:
    """Two-sided p of the mean of one difference a block being zero; 1.0 where no block differs.

    A block is what is flipped as a whole: a problem, with all its samples and seeds averaged, or a seed, with all its
    problems averaged. Exact for differences of rates and for few blocks, else from DRAWS choices of signs with a fixed
    seed, as (hits + 1) / (DRAWS + 1) (Phipson and Smyth 2010).
    """
    sizes = np.abs(np.asarray(differences, dtype=np.float64))
    seen = abs(float(np.sum(differences)))
    sizes = sizes[sizes > 0]
    if not sizes.size:
        return 1.0
    bound = seen * (1 - CLOSE) - CLOSE * sizes.max()
    if 2**sizes.size <= ENUMERATED:
        signs = 1 - 2 * ((np.arange(2**sizes.size)[:, None] >> np.arange(sizes.size)) & 1)
        return float(np.mean(np.abs(signs @ sizes) >= bound))
    if (steps := _on_a_grid(sizes)) is not None:
        grid, chances = _sums(steps)
        return min(1.0, float(chances[np.abs(grid) >= round(seen * steps.sum() / sizes.sum())].sum()))
    rng = np.random.default_rng(0)
    hits = sum(
        int(np.sum(np.abs((1.0 - 2.0 * rng.integers(0, 2, (part, sizes.size))) @ sizes) >= bound))
        for part in (1000,) * (DRAWS // 1000) + ((DRAWS % 1000,) if DRAWS % 1000 else ())
    )
    return (hits + 1) / (DRAWS + 1)


def _on_a_grid(sizes: np.ndarray) -> np.ndarray | None:
    """The sizes as whole numbers of a common unit 1/q, q at most GRIDS; None where there is none, or too many units."""
    units = np.unique(sizes)[:, None] * np.arange(1, min(GRIDS, int(GRID_STEPS / sizes.sum())) + 1)
    fits = np.all(np.abs(units - np.rint(units)) < CLOSE * np.maximum(units, 1.0), axis=0)
    return np.rint(sizes * (int(np.argmax(fits)) + 1)).astype(int) if fits.any() else None


def _sums(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(every possible sum of the signed steps, its probability where signs are fair coins)."""
    total = int(steps.sum())
    chances = np.zeros(2 * total + 1)
    chances[total] = 1.0
    reach = 0
    for step in np.sort(steps):  # shortest first: less of the line is in use
        low, high = total - reach, total + reach + 1
        part = chances[low:high] / 2
        chances[low:high] = 0
        chances[low - step : high - step] += part
        chances[low + step : high + step] += part
        reach += int(step)
    return np.arange(-total, total + 1), chances
