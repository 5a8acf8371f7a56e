"""The training stage: its version. The loop is training/loop.py, in a process of its own."""

from __future__ import annotations

VERSION = 2
