"""One progress bar for all long work: live on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from dpr_mini.types import printable

LOG_SECONDS = 20.0  # between two lines where nobody watches


def bar(**options: Any) -> tqdm:
    """A tqdm bar on standard error; `options` are tqdm's. Its words are shown, not obeyed: they may hold names."""
    options = {name: printable(value) if isinstance(value, str) else value for name, value in options.items()}
    live = sys.stderr.isatty()
    return tqdm(dynamic_ncols=live, mininterval=0.5 if live else LOG_SECONDS, maxinterval=60, **options)


def quiet_transformers() -> None:
    """No bars of transformers' own around loading and saving: ours say what takes long."""
    from transformers.utils import logging

    logging.disable_progress_bar()
