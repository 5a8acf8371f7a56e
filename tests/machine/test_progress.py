"""A progress bar's words are shown, not obeyed."""

from __future__ import annotations

from dpr_mini.machine import progress


def test_a_bar_spells_out_what_a_terminal_would_obey(capsys):
    with progress.bar(total=1, desc="\x1b]0;owned\x07\u202e", unit="\x9b31m") as bar:
        bar.update()
    said = capsys.readouterr().err
    assert "\\x1b]0;owned\\x07\\u202e" in said
    assert said.replace("\r", "").replace("\n", "").isprintable()
