"""Which cards a run sees, and what is known of them, through a stub for the driver's tool."""

import subprocess

import pytest

from dpr_mini.machine import gpus, requirements
from dpr_mini.recipe import NeedsConfig

LIST = """GPU 0: NVIDIA Test Card (UUID: GPU-a0)
  MIG 1g.10gb     Device  0: (UUID: MIG-11)
  MIG 3g.40gb     Device  1: (UUID: MIG-22)
GPU 1: NVIDIA Test Card (UUID: GPU-b1)
"""


def uuids(monkeypatch, asked):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    return [card.uuid for card in gpus.visible()]


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("0", ["GPU-a0"]),
        ("1", ["GPU-b1"]),
        ("1,0", ["GPU-b1", "GPU-a0"]),
        (" 1 , 2 ", ["GPU-b1", "GPU-c2"]),
        ("GPU-c2", ["GPU-c2"]),
        ("GPU-b,0", ["GPU-b1", "GPU-a0"]),
        ("0,7,1", ["GPU-a0"]),  # CUDA stops at the first that there is not
        ("1,1", ["GPU-b1"]),
        ("-1", []),
        ("", []),
        ("GPU-z", []),
        ("two", []),
        ("\u00b2", []),  # a superscript is no number
        ("GPU-", []),  # a beginning that several share
        ("MIG-", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(driver, monkeypatch, asked, seen):
    driver.show(1024, 2048, 3072)
    assert uuids(monkeypatch, asked) == seen


def test_without_the_variable_all_are_visible_and_the_first_is_used(driver):
    driver.show(1024, 2048)
    assert [card.free for card in gpus.visible()] == [1.0, 2.0]
    first = gpus.first()
    assert (first.total, first.taken, first.driver, first.capability) == (80.0, 79.0, "580.1", "9.0")


def test_a_mig_slice_has_the_size_of_its_name_and_nothing_is_known_to_be_free(driver, monkeypatch):
    driver.show("[N/A]", total="[N/A]", mig="Enabled")
    driver.slices.write_text(LIST)
    assert gpus.first().uuid == "MIG-11" and gpus.first().total == 10.0 and gpus.first().free is None
    assert uuids(monkeypatch, "MIG-2") == ["MIG-22"] and gpus.first().total == 40.0
    assert requirements.missing_for(NeedsConfig(gpu_gib=30), None) == ""
    assert "here there is 40 GiB" in requirements.missing_for(NeedsConfig(gpu_gib=79), None)
    assert gpus.lack(1000.0) == "", "unknown is not zero"


def test_a_card_in_mig_mode_whose_memory_is_stated_is_still_used_by_slices(driver):
    driver.show(81920, mig="Enabled")
    driver.slices.write_text(LIST)
    assert gpus.first().uuid == "MIG-11" and gpus.first().free is None


def test_an_unknown_size_is_no_missing_gpu(driver):
    driver.show("[N/A]", total="[N/A]")
    assert gpus.first().total is None and "memory not known" in gpus.first().words()
    assert requirements.missing_for(NeedsConfig(gpu_gib=79), None) == ""


def test_needs_are_those_of_the_first_visible_card(driver, monkeypatch):
    """Not of the largest: torch takes device 0."""
    driver.cards.write_text(
        "GPU-a0, Small, 24564, 24000, 580.1, 8.9, [N/A]\nGPU-b1, Large, 81559, 81000, 580.1, 9.0, Disabled\n"
    )
    assert "needs a GPU with 79 GiB of memory; here there is 24 GiB (Small)" in requirements.missing_for(
        NeedsConfig(gpu_gib=79), None
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert requirements.missing_for(NeedsConfig(gpu_gib=79), None) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert "no NVIDIA GPU (CUDA_VISIBLE_DEVICES='5')" in requirements.missing_for(NeedsConfig(gpu_gib=79), None)


def test_a_tool_that_fails_or_hangs_is_no_gpu(driver, monkeypatch):
    driver.program("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert gpus.visible() == []

    def hangs(*args, **keys):
        raise subprocess.TimeoutExpired("nvidia-smi", 30)

    monkeypatch.setattr(gpus.subprocess, "run", hangs)
    assert gpus.visible() == []
