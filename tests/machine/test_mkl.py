"""MKL's vector functions are called by one thread before a model is loaded, wherever a model runs on a CPU."""

import pytest

from dpr_mini import recipe
from dpr_mini.engines.hf import HfEngine
from dpr_mini.machine import mkl
from dpr_mini.training import loop


class Settled(Exception):
    pass


def stop():
    raise Settled


def test_training_settles_before_it_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(mkl, "settle", stop)
    with pytest.raises(Settled):
        loop.run(tmp_path, tmp_path / "no rows", tmp_path / "no model", recipe.TrainConfig(), 0)


def test_the_engine_settles_before_it_loads(small_model, monkeypatch):
    monkeypatch.setattr(mkl, "settle", stop)
    with pytest.raises(Settled):
        HfEngine(small_model).__enter__()


def test_settling_twice_costs_nothing_and_every_function_is_there():
    mkl.settle.cache_clear()
    mkl.settle()
    assert mkl.settle.cache_info().misses == 1
    mkl.settle()
    assert mkl.settle.cache_info().hits == 1
