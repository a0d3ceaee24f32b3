"""A training that was stopped or killed at any moment goes on to the same bits."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cyconv
from small_cyconv import main

import cyconv as cc
from cyconv import checkpoint, cli_train, runfolder, train

POSIX = os.name == "posix"
OPTIONS = ("train", "--epochs", "2", "--batch-size", "32", "--quiet", "--no-plots")  # 6 batches
AUGMENTED = (*OPTIONS, "--augment", "--net", "lenet-bn", "--optimizer", "sgd", "--seed", "4")
BATCHES = 6

pytestmark = pytest.mark.skipif(not POSIX, reason="signals as POSIX has them")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cyconv"])


def results(folder: Path | str) -> tuple[Any, ...]:
    """What has to be the same: the net to the bit, and the history but for the times."""
    path = Path(folder) / "model.safetensors"
    arrays, metadata = checkpoint.load_arrays(path)
    weights = {name: (array.dtype, array.tobytes()) for name, array in arrays.items()}
    lines = (Path(folder) / "history.csv").read_text().splitlines()
    history = [line.split(",")[:5] for line in lines]
    return weights, metadata, cc.load(path).config(), history


@contextlib.contextmanager
def signalled(at: tuple[int, int], *numbers: int) -> Iterator[None]:
    """Send this process these signals after batch ``at[1]`` of epoch ``at[0]``."""
    whole = cli_train.Interrupts.__call__

    def call(self: Any, now: train.Progress) -> None:
        if (now.epoch, now.batch) == at:
            for number in numbers:
                os.kill(os.getpid(), number)
        whole(self, now)

    cli_train.Interrupts.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        cli_train.Interrupts.__call__ = whole  # type: ignore[method-assign]


@pytest.mark.parametrize("options", [OPTIONS, AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize(
    ("at", "number"),
    [
        ((0, 1), signal.SIGINT),
        ((0, BATCHES), signal.SIGINT),  # while the accuracy is measured
        ((1, 0), signal.SIGINT),  # between epochs
        ((1, 4), signal.SIGTERM),
    ],
    ids=str,
)
def test_ctrl_c_and_on(
    options: tuple[str, ...],
    at: tuple[int, int],
    number: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(*options, "--out", "whole") == 0
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with signalled(at, number):
        assert main(*options, "--out", "it's") == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    message = capfd.readouterr().err
    assert "stopping after this batch" in message
    assert f"stopped in epoch {at[0]} after {at[1]} of 6 batches" in message
    assert message.splitlines()[-1] == """cyconv train --resume='it'"'"'s'"""
    assert len(results("it's")[-1]) == 1 + at[0]
    assert main("train", "--resume", "it's") == 0
    assert results("it's") == results("whole")


def test_stopped_again_and_again(capfd: pytest.CaptureFixture[str]) -> None:
    main(*OPTIONS, "--out", "whole")
    main(*OPTIONS, "--limit", "1", "--out", "other")  # not in runs/, so not the newest there
    for i in range(2 * BATCHES):
        with signalled((i // BATCHES, i % BATCHES + 1), signal.SIGTERM):
            assert main(*(("train", "--resume") if i else OPTIONS)) == 130
    assert main("train", "--resume") == 0
    assert results("runs/lenet-mnist-1") == results("whole")


def test_the_last_bits_do_not_depend_on_what_may_change(
    capfd: pytest.CaptureFixture[str],
) -> None:
    main(*OPTIONS, "--out", "whole")
    with signalled((1, 2), signal.SIGINT):
        main(*OPTIONS, "--out", "part")
    threads = cc.get_num_threads()
    try:
        more = ("--threads", "3", "--save-every", "0", "--epochs", "2")
        assert main("train", "--resume", "part", *more) == 0
    finally:
        cc.set_num_threads(threads)
    assert results("part") == results("whole")


def test_a_complete_run_is_left_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    main(*OPTIONS, "--out", "run")
    before = results("run")
    os.remove("run/model.safetensors")
    os.remove("run/history.csv")
    Path("run/.checkpoint.1a2b3c4d.tmp.safetensors").write_text("what it was writing")
    others = [Path("run/.notes.tmpl"), Path("run/.checkpoint.old.tmp.safetensors")]
    others[0].write_text("the user's own")
    others[1].mkdir()
    assert main("train", "--resume", "run") == 0
    assert results("run") == before
    assert sorted(Path("run").glob(".*")) == sorted(others)


def test_a_run_that_is_going_on_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    main(*OPTIONS, "--out", "run")
    with runfolder.locked(Path("run")):
        assert main("train", "--resume", "run") == 2
    assert "another process is training in run" in capfd.readouterr().err
    assert main("train", "--resume", "run") == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda facts, arrays: facts["settings"].pop("lr"),
        lambda facts, arrays: facts.update(settings=[1, 2]),
        lambda facts, arrays: facts["settings"].update(net="bogus"),
        lambda facts, arrays: facts.pop("epoch"),
        lambda facts, arrays: facts.update(history=[[1]]),
        lambda facts, arrays: facts.update(random=None),
        lambda facts, arrays: arrays.pop("losses"),
    ],
)
def test_a_checkpoint_that_lacks_something(change: Any, capfd: pytest.CaptureFixture[str]) -> None:
    main(*OPTIONS, "--out", "run")
    arrays, facts = checkpoint.load_arrays("run/checkpoint.safetensors")
    change(facts, arrays)
    checkpoint.save_arrays("run/checkpoint.safetensors", arrays, facts)
    assert main("train", "--resume", "run") == 2
    assert "checkpoint.safetensors is no checkpoint of a run" in capfd.readouterr().err


def test_stopping_keeps_a_model_to_look_at(capfd: pytest.CaptureFixture[str]) -> None:
    with signalled((0, 3), signal.SIGINT):
        main(*OPTIONS)
    assert main("eval") == 0
    assert "test accuracy 0." in capfd.readouterr().out


def test_stopping_later_leaves_the_model_of_the_last_epoch(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with signalled((1, 3), signal.SIGINT):
        main(*OPTIONS, "--out", "run")
    found = checkpoint.load_metadata("run/model.safetensors")
    assert found["epochs"] == 1
    main("eval", "run")
    assert f"test accuracy {found['test_accuracy']:.4f}" in capfd.readouterr().out


def test_each_file_is_written_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def note(folder: Path, *values: Any) -> None:
        written.append(len(values))
        save(folder, *values)

    save = runfolder.save_model
    monkeypatch.setattr(runfolder, "save_model", note)
    main(*OPTIONS)
    assert len(written) == 2


# ------------------------------------------------------------------ contradictions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lr", "0.1"), "--lr 0.1 contradicts the run in run, which was started with 0.003"),
        (("--epochs", "3"), "--epochs 3 contradicts .* started with 2"),
        (("--net", "vgg"), "--net vgg contradicts .* started with lenet"),
        (("--limit", "9"), "--limit 9 contradicts .* started without it"),
        (("--augment",), "--augment True contradicts .* started without it"),
        (("--backend", "other"), "invalid choice"),
        (("--momentum", "0.9"), "--momentum 0.9 contradicts .* started without it"),
        (("--out", "elsewhere"), "--out elsewhere contradicts --resume run"),
    ],
    ids=str,
)
def test_contradicting_options(
    options: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with signalled((0, 2), signal.SIGINT):
        main(*OPTIONS, "--out", "run")
    before = Path("run/checkpoint.safetensors").read_bytes()
    capfd.readouterr()
    assert main("train", "--resume", "run", *options) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert re.search(message, err)
    assert Path("run/checkpoint.safetensors").read_bytes() == before


def test_the_backend_stays_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    with signalled((0, 2), signal.SIGINT):
        main(*OPTIONS, "--out", "run")
    used = checkpoint.load_arrays("run/checkpoint.safetensors")[1]["settings"]["backend"]
    other = "numpy" if used == "cython" else "cython"
    assert main("train", "--resume", "run", "--backend", other) == 2
    assert f"which was started with {used}" in capfd.readouterr().err
    assert main("train", "--resume", "run", "--backend", "auto") == 0


def test_other_data_are_refused(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with signalled((0, 2), signal.SIGINT):
        main(*OPTIONS, "--out", "run")
    monkeypatch.setattr(small_cyconv, "TRAIN", 100)
    assert main("train", "--resume", "run") == 2
    message = "the run in run has seen 192 training and 60 test images, but here are 100 and 60"
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"x" * 100, "model"], ids=repr)
def test_a_checkpoint_that_is_none(content: Any, capfd: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    path = Path("run/checkpoint.safetensors")
    if content == "model":
        cc.save(path, cc.nn.models.lenet())
    elif content is not None:
        path.write_bytes(content)
    assert main("train", "--resume", "run") == 2
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert "run" in err


def test_nothing_to_resume(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in [("--resume",), ("--resume", "nowhere"), ("--resume", "--out", "nowhere")]:
        assert main("train", *arguments) == 2
        err = capfd.readouterr().err
        assert err.startswith("cyconv: error: there is no run")
        assert len(err.splitlines()) == 1
    assert list(Path().iterdir()) == []


# ------------------------------------------------------------------ real processes


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """Every kill leaves a readable checkpoint, and in the end nothing shows that there was one."""
    assert main(*AUGMENTED, "--out", "whole") == 0
    run, rng, kills, most = tmp_path / "run", random.Random(0), 0, 12
    first = [*AUGMENTED, "--save-every", "0", "--out", "run"]
    while True:
        begun = (run / "checkpoint.safetensors").exists()
        process = small_cyconv.start(tmp_path, *(["train", "--resume", "run"] if begun else first))
        if kills < most:
            before = modified(run)
            wait(process, lambda before=before: modified(run) != before)
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
        out, err = process.communicate(timeout=60)
        assert (out, err) == ("", "")
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        checkpoint.load_arrays(run / "checkpoint.safetensors")
        if (run / "model.safetensors").exists():
            cc.load(run / "model.safetensors")
    assert kills >= 3
    assert results(run) == results("whole")
    assert not list(run.glob(".*"))  # what the killed ones were writing


def wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    """Wait for something that the process does; at most a minute, and not for a dead one."""
    end = time.monotonic() + 60
    while not until() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def modified(run: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (run / "checkpoint.safetensors").stat().st_mtime_ns
    return 0


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with signalled((1, 2), signal.SIGINT, signal.SIGINT):
        assert main(*OPTIONS, "--out", "run") == 130
    assert "stopped" not in capfd.readouterr().err
    state = checkpoint.load_arrays("run/checkpoint.safetensors")[1]
    assert (state["epoch"], state["batch"]) == (1, 0)  # the last one before
    assert main("train", "--resume", "run") == 0
    assert main(*OPTIONS, "--out", "whole") == 0
    assert results("run") == results("whole")


@pytest.mark.parametrize(("seconds", "batch"), [("0", 1), ("1000", 0)])
def test_checkpoints_within_an_epoch(
    seconds: str, batch: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with signalled((1, 2), signal.SIGINT, signal.SIGINT):
        assert main(*OPTIONS, "--out", "run", "--save-every", seconds) == 130
    state = checkpoint.load_arrays("run/checkpoint.safetensors")[1]
    assert (state["epoch"], state["batch"]) == (1, batch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_interrupted(number: int, tmp_path: Path) -> None:
    many = ["--epochs", "1000", "--limit", "64", "--no-plots", "--out", "run"]
    process = small_cyconv.start(tmp_path, "train", *many)
    wait(process, (tmp_path / "run" / "history.csv").exists)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "cyconv train --resume=run"
    assert "Epoch 0. Loss: " in out
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="needs the limit on the size of a file")
def test_no_space_left(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: writing fails half-way."""
    program = (
        "import resource, signal, sys; import small_cyconv;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000));"
        f"sys.exit(small_cyconv.main(*{OPTIONS!r}, '--out', 'run'))"
    )
    process = small_cyconv.start_python(tmp_path, "-c", program)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "cyconv: error: cannot write run/checkpoint.safetensors: File too large\n"
    checkpoint.load_arrays(tmp_path / "run" / "checkpoint.safetensors")  # the one before
    here = ["checkpoint.safetensors", "history.csv", "model.safetensors"]
    assert sorted(os.listdir(tmp_path / "run")) == here


def test_settings_and_numbers_survive_the_file(tmp_path: Path) -> None:
    cc.seed(3)
    net = cc.nn.models.lenet()
    optimizer = cc.optim.Adam(net.parameters())
    now = train.Progress(2, 5, 320, 1.5, 0.1 + 0.2)
    now.history.losses.extend([0.1, 1e-300])
    now.history.rows.append(train.Epoch(0, 1 / 3, None, 0.5, 1e-3, 2.0, 3.0))
    settings = {"net": "lenet", "lr": 0.1 + 0.2, "limit": None}
    runfolder.save_checkpoint(tmp_path, now, net, optimizer, None, settings)
    expected = cc.randn(5).numpy()
    weights = net.state_dict()
    for parameter in net.parameters():
        parameter[...] = 0.0
    saved = runfolder.Checkpoint(tmp_path)
    assert saved.settings == settings
    assert saved.restore(net, optimizer, None) == now
    np.testing.assert_array_equal(cc.randn(5).numpy(), expected)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, weights[name])
