"""The command line: what it leaves, what it prints, and how it fails."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small_cyconv
from PIL import Image
from small_cyconv import main

import cyconv as cc
from cyconv import backends, checkpoint, cli_train, train

QUICK = ("train", "--epochs", "2", "--batch-size", "64", "--no-plots")
DIGITS = cc.data.MNIST.built_in(train=False)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cyconv"])


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one-sentence error of these arguments."""
    capsys.readouterr()
    assert main(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"cyconv[a-z ]*: error: [^\n]+\n", err), err
    assert "Traceback" not in err and "Errno" not in err
    return err


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------ train


def test_train_leaves_a_run_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(*QUICK) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "lenet, 129,068 parameters, on 192 images of mnist (a few)"
    assert lines[1].startswith("2 epochs of 3 batches, adam, cosine learning rate 0.003, ")
    assert lines[1].endswith("into runs/lenet-mnist-1")
    for epoch, line in enumerate(lines[2:4]):
        number = r"\d\.\d+"
        pattern = rf"Epoch {epoch}\. Loss: {number}, Train_acc {number}, Test_acc {number}"
        assert re.fullmatch(pattern, line)
    assert lines[4:] == ["In runs/lenet-mnist-1: model.safetensors, history.csv"]

    folder = Path("runs/lenet-mnist-1")
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["checkpoint.safetensors", "history.csv", "model.safetensors"]
    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert list(rows[0]) == list(train.Epoch._fields)
    assert all(float(value) >= 0 for row in rows for value in row.values())
    assert f"Test_acc {float(rows[1]['test_accuracy']):.4f}" in lines[3]

    net = cc.load(folder / "model.safetensors")
    test = small_cyconv.FewDigits(train=False)
    found = train.evaluate(net, cc.data.DataLoader(test, 60))
    assert found.accuracy == float(rows[1]["test_accuracy"])
    assert checkpoint.load_metadata(folder / "model.safetensors") == {
        "net": "lenet",
        "data": "mnist",
        "classes": list("0123456789"),
        "image_shape": [1, 28, 28],
        "epochs": 2,
        "test_accuracy": found.accuracy,
    }


def test_the_seed_decides(capsys: pytest.CaptureFixture[str]) -> None:
    def weights(*options: str) -> bytes:
        n = len(list(Path().glob("runs/*"))) + 1
        assert main(*QUICK, "--quiet", *options) == 0
        arrays = checkpoint.load_arrays(f"runs/lenet-mnist-{n}/model.safetensors")[0]
        return b"".join(arrays[name].tobytes() for name in sorted(arrays))

    first = weights()
    assert weights() == first
    assert weights("--seed", "0", "--epochs", "2", "--lr", "0.003") == first
    assert weights("--seed", "1") != first
    assert weights("--limit", "191") != first
    assert weights("--augment") != first
    assert capsys.readouterr() == ("", "")  # --quiet


@pytest.mark.parametrize(
    ("options", "optimizer", "schedule"),
    [
        ((), "Adam lr=0.003 weight_decay=0.0", "CosineLR"),
        (("--optimizer", "adamw"), "AdamW lr=0.003 weight_decay=0.01", "CosineLR"),
        (
            ("--optimizer", "sgd"),
            "SGD lr=0.1 momentum=0.9 weight_decay=0.0 nesterov=True",
            "CosineLR",
        ),
        (
            ("--optimizer", "sgd", "--momentum", "0", "--lr", "1", "--schedule", "step"),
            "SGD lr=1.0 momentum=0.0 weight_decay=0.0 nesterov=False",
            "StepLR",
        ),
        (
            ("--weight-decay", "0.1", "--schedule", "onecycle"),
            "Adam lr=0.003 weight_decay=0.1",
            "OneCycleLR",
        ),
        (("--schedule", "constant"), "Adam lr=0.003 weight_decay=0.0", "NoneType"),
    ],
    ids=str,
)
def test_options_reach_the_optimiser(
    options: tuple[str, ...], optimizer: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def fit(net: Any, loader: Any, *arguments: Any, **named: Any) -> None:
        seen.append(named)
        assert (loader.seed, loader.shuffle, loader.batch_size) == (7, True, 11)

    monkeypatch.setattr(cli_train, "fit", fit)
    other = ("train", "--quiet", "--epochs", "9", "--seed", "7", "--batch-size", "11")
    assert main(*other, *options) == 130  # no epoch was done
    found = seen[0]["optimizer"]
    settings = {"lr": getattr(seen[0]["schedule"], "base_lr", found.lr), **vars(found)}
    words = [type(found).__name__] + [
        f"{name}={settings[name]}"
        for name in ("lr", "momentum", "weight_decay", "nesterov")
        if name in settings
    ]
    assert " ".join(words) == optimizer
    assert type(seen[0]["schedule"]).__name__ == schedule
    assert seen[0]["epochs"] == 9


@pytest.mark.parametrize("net", cli_train.NETS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_every_net_fits_every_data_set(net: str, shape: tuple[int, ...]) -> None:
    built = cli_train.build_net(net, 7, shape)
    assert built(cc.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 10, 5000])
@pytest.mark.parametrize("name", cli_train.SCHEDULES)
def test_every_schedule_fits_any_length(name: str, steps: int) -> None:
    optimizer = cc.optim.SGD([cc.zeros(1).attach_grad()], 0.5)
    schedule = cli_train.build_schedule(optimizer, name, steps)
    rates = [optimizer.lr]
    for _ in range(steps - 1 if schedule is not None else 0):
        schedule.step()
        rates.append(optimizer.lr)
    assert all(0 <= rate <= 0.5 for rate in rates)
    if steps == 5000 and name != "constant":
        assert max(rates) == 0.5
        assert rates[-1] < 0.01 or name == "step"
        assert rates[-1] <= 0.00501


def test_folders_are_numbered_and_never_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    quick = (*QUICK, "--limit", "64", "--epochs", "1", "--quiet")
    for _ in range(2):
        assert main(*quick) == 0
    assert main(*quick, "--net", "lenet-bn") == 0
    (Path("runs") / "lenet-mnist-41").mkdir()
    assert main(*quick) == 0
    names = sorted(path.name for path in Path("runs").iterdir())
    assert names == ["lenet-bn-mnist-1", *(f"lenet-mnist-{n}" for n in (1, 2, 41, 42))]
    Path("mine/empty").mkdir(parents=True)
    assert main(*quick, "--out", "mine/empty") == 0
    message = fails(capsys, *quick, "--out", "mine/empty")
    assert "mine/empty is there already" in message and "--resume mine/empty" in message
    Path("file").write_text("")
    assert "file is there already" in fails(capsys, *quick, "--out", "file")
    assert "file/x: Not a directory" in fails(capsys, *quick, "--out", "file/x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "0"), "argument --epochs: must be a whole number, at least 1, got '0'"),
        (("--epochs", "1.5"), "argument --epochs: must be a whole number, at least 1, got '1.5'"),
        (("--batch-size", "x"), "argument --batch-size: must be a whole number, at least 1"),
        (("--lr", "-1"), "argument --lr: must be a number, at least 0, got '-1'"),
        (("--lr", "nan"), "argument --lr: must be a number, at least 0, got 'nan'"),
        (("--lr", "inf"), "argument --lr: must be a number, at least 0, got 'inf'"),
        (("--seed", "-1"), "argument --seed: must be a whole number, at least 0"),
        (("--threads", "0"), "argument --threads: must be a whole number, from 1 to 1024"),
        (("--threads", "9999"), "argument --threads: must be a whole number, from 1 to 1024"),
        (("--limit", "0"), "argument --limit: must be a whole number, at least 1"),
        (("--limit", "193"), "--limit 193: there are only 192 training images"),
        (("--net", "alexnet"), "argument --net: invalid choice: 'alexnet'"),
        (("--momentum", "0.9"), "--momentum is for --optimizer sgd; adam has none"),
        (("--epoch", "1"), "unrecognized arguments: --epoch 1"),
        (("--out",), "argument --out: expected one argument"),
    ],
    ids=str,
)
def test_bad_options(
    options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(capsys, "train", *options)
    assert list(Path().iterdir()) == []


def test_other_mistakes(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    assert "required: COMMAND" in fails(capsys)
    assert "invalid choice: 'trian'" in fails(capsys, "trian")
    Path("file").write_text("")
    monkeypatch.setenv("CYCONV_DATA_DIR", "nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    monkeypatch.setattr(cc.data.cifar, "MIRRORS", ())
    message = fails(capsys, "train", "--data", "cifar10")
    assert "there is no cifar-10-binary.tar.gz in nowhere/cifar10" in message
    assert main(*QUICK, "--quiet", "--no-quiet") == 2


def test_a_training_that_explodes(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def explode(*arguments: Any, **named: Any) -> None:
        train.check_finite(float("nan"), "epoch 0, batch 0", named["optimizer"].lr)

    monkeypatch.setattr(cli_train, "fit", explode)
    message = fails(capsys, "train", "--quiet", "--schedule", "constant")
    assert "the loss became nan in epoch 0, batch 0; try a learning rate smaller" in message


def test_backend_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    before = backends.backend_name(), cc.get_num_threads()
    try:
        assert main(*QUICK, "--limit", "64", "--backend", "numpy", "--threads", "3") == 0
        assert "numpy backend, 3 threads" in capsys.readouterr().out
        assert main("info", "--backend", "auto", "--threads", "2") == 0
        assert re.search(r"^backend +numpy\n", capsys.readouterr().out, re.M)
    finally:
        backends.set_backend(before[0])
        cc.set_num_threads(before[1])


# ------------------------------------------------------------------ eval


def test_eval(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no run with a model.safetensors in " in fails(capsys, "eval")
    assert main(*QUICK, "--quiet") == 0
    assert main(*QUICK, "--quiet", "--seed", "1", "--out", "other") == 0
    rows = rows_of(Path("runs/lenet-mnist-1"))
    expected = f"accuracy {float(rows[1]['test_accuracy']):.4f}, "
    for model in ((), ("runs/lenet-mnist-1",), ("runs/lenet-mnist-1/model.safetensors",)):
        assert main("eval", *model) == 0
        out = capsys.readouterr().out
        assert expected in out
        assert out.startswith("runs/lenet-mnist-1/model.safetensors: test accuracy ")
        assert out.endswith(" on 60 images of mnist\n")
    assert main("eval", "other", "--data", "mnist") == 0
    assert capsys.readouterr().out.startswith("other/model.safetensors: ")


def test_mistakes_in_eval(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file or folder nowhere" in fails(capsys, "eval", "nowhere")
    Path("empty").mkdir()
    assert "empty is no run folder: there is no model.safetensors" in fails(capsys, "eval", "empty")
    Path("text").write_text("just some text, longer than eight bytes")
    assert "text is damaged or no safetensors file" in fails(capsys, "eval", "text")
    cc.save("bare", cc.nn.models.lenet())
    assert "bare does not say what it was trained with" in fails(capsys, "eval", "bare")
    cc.save("bare", cc.nn.models.lenet(in_channels=3))
    assert "input has 1 channels" in fails(capsys, "eval", "bare", "--data", "mnist")


# ------------------------------------------------------------------ predict


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run folder with a net that has seen enough to read a clear digit."""
    cc.seed(0)
    net = cc.nn.models.lenet()
    digits = cc.data.Subset(cc.data.MNIST.built_in(), range(2000))
    optimizer = cc.optim.Adam(net.parameters(), 3e-3)
    train.fit(
        net, cc.data.DataLoader(digits, 32, shuffle=True), optimizer=optimizer, progress=False
    )
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    facts = {"classes": list("0123456789"), "image_shape": [1, 28, 28], "data": "mnist"}
    cc.save(folder / "model.safetensors", net, facts)
    return folder


def test_predict(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digit = DIGITS.images[0, 0]  # a 7
    Image.fromarray(digit).save("seven.png")
    Image.fromarray(255 - digit).resize((300, 300)).convert("RGB").save("paper.jpg")
    assert main("predict", "seven.png", "paper.jpg", "seven.png") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2] == lines[0]
    share = r"\d+\.\d %"
    assert re.fullmatch(rf"seven.png: 7 \({share}\), \d \({share}\), \d \({share}\)", lines[0])
    assert lines[1].startswith("paper.jpg: 7 (")
    assert lines[1].endswith("  [inverted: its background is light; centred]")
    for model in (str(trained), str(trained / "model.safetensors")):
        assert main("predict", "--model", model, "seven.png") == 0
        assert capsys.readouterr().out.splitlines() == lines[:1]


def test_mistakes_in_predict(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(DIGITS.images[0, 0]).save("seven.png")
    data = Path("seven.png").read_bytes()
    Path("cut.png").write_bytes(data[:100])
    Path("text.png").write_text("not a picture")
    bomb = (40000).to_bytes(4, "big") * 2
    Path("huge.png").write_bytes(data[:16] + bomb + data[24:])
    capsys.readouterr()
    for image, message in [
        ("nowhere.png", "nowhere.png: No such file"),
        ("runs", "runs: Is a directory"),
        ("cut.png", "cut.png cannot be read"),
        ("text.png", "text.png is not an image of a known format"),
        ("huge.png", "huge.png"),
    ]:
        assert main("predict", "seven.png", image) == 2
        out, err = capsys.readouterr()
        assert message in err and out.startswith("seven.png: 7") and out.count("\n") == 1
        assert message in fails(capsys, "predict", image)
    cc.save("bare", cc.nn.models.lenet())
    message = fails(capsys, "predict", "--model", "bare", "seven.png")
    assert "bare does not say what its images and classes are" in message


# ------------------------------------------------------------------ the program


def program(*arguments: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    root = str(Path(cc.__file__).parents[1])
    start = ["-c", script] if script else ["-m", "cyconv"]
    return subprocess.run(
        [sys.executable, "-W", "error", *start, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_python_m_cyconv() -> None:
    done = program("--version")
    assert (done.returncode, done.stdout) == (0, f"cyconv {cc.__version__}\n")
    done = program("info")
    assert done.returncode == 0 and "threads" in done.stdout and done.stderr == ""
    done = program("train", "--epochs", "none")
    assert done.returncode == 2
    assert done.stderr.startswith("python -m cyconv train: error: argument --epochs")
    done = program("train", "--help")
    assert done.returncode == 0
    for option in (*cli_train.FIXED_DEFAULTS, "resume", "out", "threads", "no-plots", "quiet"):
        assert f"--{option.replace('_', '-')}" in done.stdout


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    script = """if True:
        import sys
        from cyconv.__main__ import main
        main(["info"])
        heavy = {"tqdm", "PIL", "matplotlib", "safetensors", "pooch"}
        print(*sorted(heavy & sys.modules.keys()), file=sys.stderr)
    """
    assert program(script=script).stderr == "\n"


@pytest.mark.parametrize("unbuffered", [True, False])
def test_a_reader_that_leaves(unbuffered: bool) -> None:
    script = f"""if True:
        import os, sys
        from cyconv.__main__ import main
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
        sys.stdout.reconfigure(write_through={unbuffered})
        sys.exit(main(["info"]))
    """
    done = program(script=script)
    assert done.stderr == ""
