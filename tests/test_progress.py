"""What fit shows while it trains: a bar on a terminal, few lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time

import pytest
from test_train import loader, sgd, small_net

from cyconv import progress as progress_module
from cyconv.train import Progress, fit


def test_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    net = small_net()
    history = fit(net, loader(), loader(), optimizer=sgd(net), epochs=2)
    out, err = capsys.readouterr()
    assert err == ""
    expected = [
        f"Epoch {row.epoch}. Loss: {row.loss:#.4g}, Train_acc {row.train_accuracy:.4f}, "
        f"Test_acc {row.test_accuracy:.4f}"
        for row in history.rows
    ]
    assert out.splitlines() == expected
    fit(net, loader(), loader(), optimizer=sgd(net), progress=False)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "BETWEEN_LINES", 0.0)
    net = small_net()
    fit(net, loader(), optimizer=sgd(net))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("Epoch 0: batch 1 of 7, loss ")
    assert lines[0].endswith(" images/s")
    fit(net, loader(), optimizer=sgd(net), progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress_module, "BETWEEN_TEXTS", 0.0)
    net = small_net()
    fit(net, loader(), optimizer=sgd(net), epochs=2, callbacks=[lambda now: time.sleep(0.03)])
    out, err = capsys.readouterr()
    assert "Epoch 1 (of 2)" in err and "\n" not in err
    assert "images/s" in err and "loss" in err and "measuring the accuracy" in err
    assert len(out.splitlines()) == 2


def test_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    net = small_net()
    assert fit(net, loader(), optimizer=sgd(net)).losses


def test_the_time_before_counts() -> None:
    net = small_net()
    start = Progress(batch=2, images=16, seconds=100.0)
    row = fit(net, loader(), optimizer=sgd(net), start=start, progress=False).rows[0]
    assert 100 < row.seconds < 200
    assert row.images_per_second < 1
