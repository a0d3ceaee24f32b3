"""What was measured of earlier commits: ``python -m benchmarks.history``.

pytest benchmarks --benchmark-only --benchmark-json=run.json
python -m benchmarks.history keep run.json     # a small file in benchmarks/history
python -m benchmarks.history show              # what became slower, machine by machine
python -m benchmarks.history plot history.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from .compare import processor

FOLDER = Path(__file__).parent / "history"
OURS = ("cython", "compiled", "auto", "direct", "im2col", "winograd")  # peers are no history
SLOWER = 1.15  # times; less is within what two runs differ


class Run(NamedTuple):
    """One commit on one machine; ``seconds`` are the best of each benchmark, by its name."""

    commit: str
    date: str
    machine: str
    seconds: dict[str, float]


def curated(report: dict[str, Any], machine: str) -> Run:
    """What is worth keeping of a report of pytest-benchmark."""
    rows = [b for b in report["benchmarks"] if b["extra_info"].get("backend") == "cython"]
    if not rows:
        raise SystemExit("there is no row of cyconv's compiled kernels in this report")
    facts = rows[0]["extra_info"]
    isa = facts["instruction_set"].split()[0]
    where = f"{machine}, {isa}, {facts['threads']} threads"
    seconds = {b["name"]: float(f"{b['stats']['min']:.4g}") for b in rows}
    return Run(facts["commit"], report["datetime"][:19], where, dict(sorted(seconds.items())))


def load(folder: Path = FOLDER) -> list[Run]:
    """All runs, the oldest first."""
    runs = [Run(**json.loads(path.read_text())) for path in folder.glob("*.json")]
    return sorted(runs, key=lambda run: run.date)


def keep(path: Path, folder: Path = FOLDER) -> Path:
    run = curated(json.loads(path.read_text()), processor())
    folder.mkdir(exist_ok=True)
    kept = folder / f"{run.date[:10]}-{run.commit}.json"
    if kept.exists() and json.loads(kept.read_text())["machine"] != run.machine:
        raise SystemExit(f"{kept} is another machine's run of that commit; rename it first")
    kept.write_text(json.dumps(run._asdict(), indent=1) + "\n")
    return kept


def slower(runs: list[Run]) -> list[str]:
    """Each benchmark that a machine's last run took longer for than its best one before."""
    found = []
    for machine in dict.fromkeys(run.machine for run in runs):
        *before, last = [run for run in runs if run.machine == machine]
        for name, value in last.seconds.items():
            best = min((run.seconds[name] for run in before if name in run.seconds), default=value)
            if value > SLOWER * best:
                found.append(f"{value / best:.2f} times as long: {name} ({last.commit}, {machine})")
    return found


def draw(runs: list[Run], axes: Any) -> None:
    """For each machine the times of the whole network, relative to its first run."""
    for machine in dict.fromkeys(run.machine for run in runs):
        mine = [run for run in runs if run.machine == machine]
        for name in ("test_training_step[cython]", "test_inference[compiled-1]"):
            kept = [run for run in mine if name in run.seconds]
            if kept:
                relative = [run.seconds[name] / kept[0].seconds[name] for run in kept]
                label = f"{name.removeprefix('test_')} ({machine})"
                axes.plot([run.commit for run in kept], relative, "o-", label=label)
    axes.set_ylabel("time, relative to the first")
    axes.set_ylim(bottom=0)
    axes.tick_params("x", rotation=45)
    axes.legend(fontsize="small")


def plot(runs: list[Run]) -> Any:
    """``draw`` in a figure of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    draw(runs, figure.subplots())
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("keep", help="keep a report").add_argument("report", type=Path)
    commands.add_parser("show", help="say what became slower")
    commands.add_parser("plot", help="draw the history").add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "keep":
        print(f"kept {keep(options.report)}")
    elif options.command == "plot":
        plot(load()).savefig(options.file)
    else:
        found = slower(load())
        print("\n".join(found) or f"nothing takes over {SLOWER} times as long as before")


if __name__ == "__main__":
    main()
