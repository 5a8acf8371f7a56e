"""What every kernel test shares: the device and the comparison with fp64. tests/conftest.py sets TRITON_INTERPRET."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from dpr_mini.machine import mkl

CUDA = torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CUDA:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, torch.cuda finds none"))


@pytest.fixture(scope="session", autouse=True)
def settled() -> None:
    """Tolerances here are about rounding, not about MKL's first calls."""
    mkl.settle()


@pytest.fixture(autouse=True)
def memory_goes_back() -> Iterator[None]:
    """Tests of several processes share one GPU, and some take 20 GiB of it."""
    yield
    if CUDA:
        torch.cuda.empty_cache()


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU where there is one; else the CPU, where impl="triton" runs in Triton's interpreter."""
    return torch.device("cuda" if CUDA else "cpu")


@pytest.fixture(scope="session")
def against_fp64() -> Callable[..., None]:
    """check(name, ours, eager, exact, *, slack=1.5, ulps=2.0): ours is no further from fp64 than eager is.

    `eager` is the plain formula in the dtype of `ours`, `exact` the same formula in fp64 from the same inputs.
    Largest error <= slack x eager's largest error + floor, where floor = ulps x eps(dtype) x max|exact|;
    cosine with fp64 above 0.9999; same shape, dtype and NaN-free.
    """

    def check(name: str, ours: Tensor, eager: Tensor, exact: Tensor, *, slack: float = 1.5, ulps: float = 2.0) -> None:
        assert exact.dtype == torch.float64, f"{name}: exact must be float64, is {exact.dtype}"
        assert ours.shape == exact.shape, f"{name}: shape {(*ours.shape,)}, wanted {(*exact.shape,)}"
        assert ours.dtype == eager.dtype, f"{name}: dtype {ours.dtype}, eager has {eager.dtype}"
        if not exact.numel():
            return
        a, b, want = (x.detach().double().cpu().flatten() for x in (ours, eager, exact))
        assert a.isfinite().all(), f"{name}: not finite"
        floor = ulps * torch.finfo(ours.dtype).eps * want.abs().max().item()
        mine, theirs = (a - want).abs().max().item(), (b - want).abs().max().item()
        norms = (a.norm() * want.norm()).item()
        cosine = (a @ want).item() / norms if norms else 1.0 if a.norm() == want.norm() else 0.0
        line = f"{name}: error {mine:.2e}, eager {theirs:.2e}, floor {floor:.1e}, cosine {cosine:.7f}"
        print(line)
        assert mine <= slack * theirs + floor, line
        assert cosine > 0.9999, line

    return check
