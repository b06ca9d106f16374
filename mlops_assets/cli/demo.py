"""``mlops demo``: the whole graph on the real flights data, then a summary."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar
    from rich.progress import TaskID

    from mlops_assets.cli.status import Status
    from mlops_assets.orchestration.running import Progress
    from mlops_assets.settings import Settings


_TRIALS = 2
"""Trials of each search in the demo: enough to see one, few enough not to wait for it."""


def demo(
    *,
    full_search: Annotated[
        bool,
        typer.Option(help="Search parameters with the whole declared budget: about twice as long."),
    ] = False,
    prediction: Annotated[
        bool, typer.Option(help="End with a live prediction, asked over HTTP.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make every asset of the flights example, from the raw files to a registered champion."""
    import time

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as ProgressBar

    from mlops_assets.cli.output import console
    from mlops_assets.cli.status import print_status, read_status
    from mlops_assets.settings import current_settings

    settings = current_settings()
    if settings.search_trials is None and not full_search:
        settings = settings.model_copy(update={"search_trials": _TRIALS})
    started = time.perf_counter()
    with ProgressBar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=as_json,
    ) as bar:
        task = bar.add_task("loading definitions", total=None)
        from mlops_assets.definitions import build_defs
        from mlops_assets.orchestration.running import assets_of_job, run_job, whole_range

        defs = build_defs(settings)
        bar.update(task, total=assets_of_job(defs, "everything"))
        outcome = run_job(
            defs,
            "everything",
            settings,
            days=whole_range(defs),
            on_progress=_Printer(bar, task),
        )
    if outcome.failures:
        for step, message in outcome.failures:
            console.print(f"{step} failed", style="red")
            console.print(message, markup=False, highlight=False)
    status = read_status(settings)
    print_status(status, as_json=as_json)
    if prediction and not as_json:
        _show_live_prediction(settings, status)
        console.print(f"Run {outcome.run_id} took {time.perf_counter() - started:.0f} s.")
    if not outcome.success:
        raise typer.Exit(1)


def _show_live_prediction(settings: "Settings", status: "Status") -> None:
    """Ask the first champion there is about the newest entity, as a caller would."""
    from mlops_assets.cli.live_prediction import predict_once
    from mlops_assets.cli.output import console, print_text

    served = [family.family for family in status.families if family.champion]
    if not served:
        return
    console.print("[italic]A live prediction[/italic]")
    for line in predict_once(settings, served[-1]).lines():
        print_text(line)


class _Printer:
    """Prints a line for each asset as it is made, and keeps the bar on the step that runs."""

    def __init__(self, bar: "ProgressBar", task: "TaskID") -> None:
        self._bar, self._task = bar, task

    def __call__(self, progress: "Progress") -> None:
        match progress.kind:
            case "started":
                self._bar.update(self._task, description=progress.subject)
            case "said":
                self._bar.update(
                    self._task,
                    description=f"{progress.subject}: {progress.text.splitlines()[0][:70]}",
                )
            case "made":
                rows = f"{progress.rows:>12,} rows" if progress.rows is not None else ""
                self._bar.console.print(f"[green]✓[/green] {progress.subject:<44}{rows}")
                self._bar.advance(self._task)
            case "failed":
                self._bar.console.print(f"[red]✗ {progress.subject}[/red]")
