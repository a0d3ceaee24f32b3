"""The kept history of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import history
from benchmarks.history import Run


def report(seconds: float) -> dict[str, object]:
    facts = {"backend": "cython", "instruction_set": "avx2 (built: avx2)", "threads": 2}
    rows = [
        {"name": "ours", "extra_info": {**facts, "commit": "abc"}, "stats": {"min": seconds}},
        {"name": "peer", "extra_info": {"backend": "torch"}, "stats": {"min": 1.0}},
    ]
    return {"datetime": "2026-01-02T03:04:05.678", "benchmarks": rows}


def test_a_report_is_kept_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(report(0.00123456)))
    kept = history.keep(path, tmp_path / "history")
    assert kept.name == "2026-01-02-abc.json"
    (run,) = history.load(tmp_path / "history")
    assert run.seconds == {"ours": 0.001235} and run.commit == "abc"
    assert run.machine.endswith(", avx2, 2 threads")


def test_what_became_slower_is_said() -> None:
    def run(day: int, machine: str, **seconds: float) -> Run:
        return Run(f"c{day}", f"2026-01-0{day}", machine, seconds)

    runs = [run(1, "a", x=1.0, y=1.0), run(2, "a", x=0.5, y=1.1), run(3, "a", x=0.7, y=1.1, z=9.0)]
    other = [run(4, "b", x=8.0)]
    assert history.slower(runs + other) == ["1.40 times as long: x (c3, a)"]
    assert history.slower(runs[:2]) == []


def test_a_report_without_rows_of_ours_is_refused() -> None:
    with pytest.raises(SystemExit, match="no row of cyconv"):
        history.curated({"datetime": "", "benchmarks": []}, "m")


def test_the_kept_runs_are_well_formed() -> None:
    for run in history.load():
        assert run.commit and run.machine and len(run.date) == 19
        assert run.seconds and all(value > 0 for value in run.seconds.values())
    if history.load():
        pytest.importorskip("matplotlib")
        assert history.plot(history.load()).axes[0].lines


def test_another_machines_run_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(report(1.0)))
    monkeypatch.setattr(history, "processor", lambda: "one")
    kept = history.keep(path, tmp_path / "kept")
    assert history.keep(path, tmp_path / "kept") == kept  # again, of the same machine
    monkeypatch.setattr(history, "processor", lambda: "another")
    with pytest.raises(SystemExit, match="another machine's run"):
        history.keep(path, tmp_path / "kept")
