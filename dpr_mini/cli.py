"""The command line. No logic here: each command parses, calls, prints. Mistakes of the user are one clear line."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any

# libgomp's default spin-waiting is ruinous on shared cores (10x at batch 1); it is read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# CUDA numbers cards by speed unless told otherwise, nvidia-smi by their place: one number must mean one card.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

import typer

from dpr_mini.types import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich would take twice as long as all else
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Dual-phase self-training of a reasoning model (arXiv 2601.05616) on one node.\n\n"
    "Start with: dpr-mini run recipes/smollm2-cpu.yaml   (no GPU needed)",
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, e.g. recipes/smollm2-cpu.yaml.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. train.epochs=1 scale=0.1.")
]
Runs = Annotated[Path, typer.Option(help="Folder that holds all runs.")]
ClosedForms = Annotated[
    str, typer.Option(metavar="refuse|accept", help="A number as a closed form that nobody worked out.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, e.g. runs/smollm2-cpu.")]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A UserError, an interrupt or what the system refuses ends the command with one line and a code that is not 0."""
    try:
        yield
    except UserError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        complain("interrupted; what was done is kept, the same command goes on")
        raise typer.Exit(130) from None
    except OSError as error:
        from dpr_mini.store import system_error

        complain(str(system_error("", error)))
        raise typer.Exit(1) from None
    except MemoryError:
        complain("out of memory; what was done is kept: free some, or ask for less, then run the same command")
        raise typer.Exit(1) from None


def complain(message: str) -> None:
    """One line on standard error, red on a terminal that wants colours."""
    with suppress(OSError):  # standard error is full, too: only the exit code is left to say it
        line = f"dpr-mini: {message}"
        typer.echo(line if os.environ.get("NO_COLOR") else typer.style(line, fg="red"), err=True)


def show_version(flag: bool) -> None:
    if flag:
        from importlib.metadata import version

        print(f"dpr-mini {version('dpr-mini')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


def numbers(text: str | None) -> list[int] | None:
    """ "0,1,2" as numbers. Raises UserError for anything else."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text!r}: write it as 0,1,2") from None


@app.command()
def run(
    words: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE]...", help="Recipes, then overrides.")],
    runs: Runs = Path("runs"),
    until: Annotated[str | None, typer.Option(help="Stop after this stage, e.g. filter-1.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Run every recipe with each of them, e.g. 0,1,2.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two training steps on random weights and rows.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Open problems.test; the first time is noted.")] = False,
) -> None:
    """Run recipes: do what is missing, resume what is incomplete, print where the report is.

    The same command after a crash or a Ctrl-C goes on where it stopped; a finished run does nothing. Recipes with one
    `store`, e.g. recipes/ablations/*.yaml, share every stage they have in common; `compare` sets them side by side.
    A recipe for a GPU begins with a look at what it needs and a rehearsal of one layer. A --dry-run trains every layer
    for two steps on random weights, saves nothing and needs no download: it shows in a minute whether training can run
    here, and what memory it takes. scale=0.1 shrinks its layers and rows.
    """
    with one_line_errors():
        from dpr_mini.commands.dry_run import dry_run as rehearse
        from dpr_mini.commands.run import run

        paths, overrides = [Path(w) for w in words if "=" not in w], [w for w in words if "=" in w]
        if dry_run:
            rehearse(paths, overrides)
        else:
            run(paths, overrides, runs, until, numbers(seeds), test)


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    gpu: Annotated[str | None, typer.Option(help="Plan for a card of this size, e.g. 24GiB.")] = None,
) -> None:
    """Show what `run` would do: reuse, resume or run each stage, and which value changed. Exit 1 if it cannot."""
    with one_line_errors():
        from dpr_mini.commands.plan import plan

        plan(recipe, overrides or [], runs, gpu)


@app.command()
def show(
    run: RunFolder,
    stage: Annotated[str | None, typer.Argument(help="One stage, e.g. filter-1.")] = None,
    rows: Annotated[int, typer.Option("-n", "--rows", help="Random rows to read.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Choose the same rows again.")] = None,
) -> None:
    """Counts, drops by rule and random rows of a run: reading the data should be the easiest command."""
    with one_line_errors():
        from dpr_mini.commands.show import show_run, show_stage

        show_stage(run, stage, rows, seed) if stage else show_run(run)


@app.command()
def grade(
    cases: Annotated[Path, typer.Argument(help="JSONL of {id, gold, pred}; pred is an answer or a whole response.")],
    out: Annotated[Path, typer.Option(help="JSONL of {id, status, extracted, how, ms}.")],
    closed_forms: ClosedForms = "refuse",
) -> None:
    """Grade answers: correct, wrong, unparsed or timeout. Text is parsed, never evaluated."""
    with one_line_errors():
        from dpr_mini.commands.grade import grade_file

        grade_file(cases, out, closed_forms=closed_forms)


@app.command()
def filter(
    rows: Annotated[Path, typer.Argument(help="JSONL of {id, text, gold, finish}, or {id, turns: [...], gold}.")],
    out: Annotated[Path, typer.Option(help="JSONL of {id, keep, drops: [{rule, evidence}]}, one for every row.")],
    rules: Annotated[str | None, typer.Option(help="Names, comma-separated; options need a recipe.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Take its filter rules and bridges.")] = None,
) -> None:
    """Put rows through the pipeline's filter rules: which to keep, and why the others are not."""
    with one_line_errors():
        from dpr_mini.commands.filter import filter_file

        filter_file(rows, out, rules, recipe)


@app.command()
def eval(
    model: Annotated[str, typer.Argument(help="The embedded model, a local folder, or a hub name.")],
    on: Annotated[str, typer.Option(help="gsm8k, math500, aime24, aime25, olymmath or JSONL files; comma-separated.")],
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option(help="Folder of eval_gsm8k.jsonl ...; none: the hub.")] = None,
    preset: Annotated[str | None, typer.Option(help="ours, qwen-math, qwen-boxed or long-cot.")] = None,
    k: Annotated[int | None, typer.Option(help="Samples a problem.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Take only the first problems of each source.", min=1)] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Length limit of an answer.", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the samples.", min=0.0)] = None,
    engine: Annotated[str, typer.Option(help="auto, openvino, hf or sglang.")] = "auto",
    closed_forms: ClosedForms = "refuse",
    runs: Runs = Path("runs"),
) -> None:
    """Score any model: pass@1, maj@k, pass@k, greedy with their intervals; length, truncation, levels.

    What is given here wins over the preset. Run again, it re-grades the saved answers, e.g. with another
    evaluate.grader.timeout_s.
    """
    with one_line_errors():
        from dpr_mini.commands.eval import evaluate

        settings = {"preset": preset, "samples": k, "max_new_tokens": max_new_tokens, "temperature": temperature}
        settings["grader"] = {"closed_forms": closed_forms}
        evaluate(model, on.split(","), runs, data, limit, engine, overrides or [], **settings)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, or an experiment's folder.")],
    baseline: Annotated[
        str | None, typer.Option(help="The arm to compare with; the untouched model by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write into; the first RUN by default.")] = None,
    hypotheses: Annotated[
        Path | None, typer.Option(metavar="RECIPE", help="Test this recipe's hypotheses; those of the runs by default.")
    ] = None,
) -> None:
    """Set runs side by side: registered hypotheses, pass@1 with intervals, paired differences, what each cost."""
    with one_line_errors():
        from dpr_mini.commands.compare import compare

        compare(folders, out, baseline, hypotheses)


@app.command()
def report(run: RunFolder) -> None:
    """Write a run's report again (report.html, report.md) and print where it is."""
    with one_line_errors():
        from dpr_mini.commands.report import report

        report(run)


@app.command()
def verify(run: RunFolder) -> None:
    """Hold every file of a run against its size and sha256 when its stage was complete. Exit 1 if one differs.

    `run` compares sizes at every start, and the content of what a stage reads before it starts; this compares all.
    """
    with one_line_errors():
        from dpr_mini.commands.verify import verify

        verify(run)


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder to write; for gguf also a file NAME.gguf, without a card.")],
    format: Annotated[
        str, typer.Option(help="hf (safetensors), gguf (F16, for llama.cpp and Ollama), data (kept dialogues).")
    ] = "hf",
    stage: Annotated[str | None, typer.Option(help="E.g. train-1 or filter-2; the last model, all data.")] = None,
    push: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Also upload to this hub repository.")] = None,
) -> None:
    """Take a trained model or the kept dialogues out of a run, with a card: recipe, lineage, scores.

    Only --push leaves this machine; it uses the login of `hf auth login`, and a new repository is private.
    """
    with one_line_errors():
        from dpr_mini.commands.export import export

        export(run, out, format, stage, push)


@app.command()
def doctor() -> None:
    """What is here, what is missing, and the one command that installs it. Exit 1 if the demo cannot run."""
    with one_line_errors():
        from dpr_mini.commands.doctor import examine

        raise typer.Exit(0 if examine() else 1)


def main(argv: list[str] | None = None) -> Any:
    """Entry point of the `dpr-mini` script."""
    _occupy_descriptors()
    if sys.stdout is None:
        complain("standard output is closed; send it somewhere, e.g. >/dev/null")
        sys.exit(1)
    sys.stdout = Output(open(1, "wb", closefd=False), encoding=sys.stdout.encoding)  # noqa: SIM115
    try:
        with one_line_errors():
            app(argv)
    except typer.Exit as ended:
        sys.exit(_flushed(ended.exit_code))
    except SystemExit as ended:
        sys.exit(_flushed(ended.code))


class Output(io.TextIOWrapper):
    """Standard output whose errors say so, and which spells out what its encoding lacks."""

    def __init__(self, buffer: IO[bytes], encoding: str) -> None:
        # stage lines appear as they happen, also in a log
        super().__init__(buffer, encoding, errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            error.filename = "standard output"
            raise


def _occupy_descriptors() -> None:
    """Standard descriptors that are closed get /dev/null: the next file opened would be taken for the terminal."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _flushed(code: Any) -> Any:
    """The exit code, or 1 where what was printed could not be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not code:
            complain(f"standard output cannot be written: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return code or 1
    return code


if __name__ == "__main__":
    main()
