"""Where things are, for tests of every folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
SMOKE_MODEL = RECIPES / "smoke-model"
BENCH = ROOT / "bench"
TEST_DATA = ROOT / "tests" / "data"
SHARED_DATA = ROOT.parent / "shared" / "data"  # benchmark data beside the checkout; tests that need it skip without
