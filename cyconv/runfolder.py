"""The folder that a training leaves: the net, its history, and what is needed to go on.

    model.safetensors        the net as it is after the last epoch, as ``cyconv.load`` reads it
    history.csv              a line per epoch
    checkpoint.safetensors   everything that the rest of the training depends on
    *.png                    pictures, if matplotlib is installed

Every file is written whole or not at all, so a crash or kill -9 at any moment leaves the last one.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoint, random
from .atomic import FilePath, remove_left_over, write_file
from .nn import Module
from .optim import Optimizer
from .schedules import Schedule
from .train import Epoch, History, Progress

RUNS = Path("runs")  # where runs without a name of their own go
MODEL = "model.safetensors"
HISTORY = "history.csv"
CHECKPOINT = "checkpoint.safetensors"
FORMAT = 1  # of the checkpoint


def new_folder(name: str, out: FilePath | None) -> Path:
    """Make ``out``, or runs/<name>-<n> with the next free n. ValueError if ``out`` is in use."""
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(
                f"{folder} is there already and not an empty folder; give another --out, or go on "
                f"with the run in it by --resume {folder}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    RUNS.mkdir(exist_ok=True)
    ends = [path.name.rpartition("-")[2] for path in RUNS.glob(f"{name}-*")]
    n = max((int(end) for end in ends if end.isdecimal()), default=0)
    while True:  # another process may take the number first
        n += 1
        with suppress(FileExistsError):
            folder = RUNS / f"{name}-{n}"
            folder.mkdir()
            return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; ValueError if one is in it."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        yield
        return
    import fcntl

    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another process is training in {folder}") from None
        yield
    finally:
        os.close(place)


def newest(file: str) -> Path:
    """The folder in runs/ whose ``file`` was written last."""
    found = [path for path in RUNS.glob(f"*/{file}") if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"there is no run with a {file} in {RUNS.resolve()}; name a run folder, or train first"
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent


def model_file(run: FilePath | None) -> Path:
    """The model of a run folder; of the newest run for None; a file stays as it is."""
    path = newest(MODEL) if run is None else Path(run)
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise FileNotFoundError(f"{path} is no run folder: there is no {MODEL} in it")
        return path / MODEL
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    return path


def save_model(folder: Path, net: Module, metadata: Mapping[str, Any]) -> None:
    """Write ``model.safetensors``."""
    with _writing(folder / MODEL) as path:
        checkpoint.save(path, net, metadata)


def save_history(folder: Path, history: History) -> None:
    """Write ``history.csv``: the fields of ``train.Epoch``, a line per epoch."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch._fields)
    writer.writerows(history.rows)
    save_bytes(folder / HISTORY, text.getvalue().encode())


def save_bytes(path: Path, data: bytes) -> None:
    """Write a file in one step that either happened or did not."""
    with _writing(path):
        write_file("save_bytes", path, data)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Say which file it was if there is no space, no folder or no permission."""
    try:
        yield path
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None


def save_checkpoint(
    folder: Path,
    now: Progress,
    net: Module,
    optimizer: Optimizer,
    schedule: Schedule | None,
    settings: Mapping[str, Any],
) -> None:
    """Write everything that the rest of the training depends on, after a batch or an epoch.

    ``settings`` is what the caller needs to build the net, the optimiser, the schedule and the
    loader again: anything that JSON can hold.
    """
    arrays = {f"net.{name}": array for name, array in net.state_dict().items()}
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state_dict().items()}
    if schedule is not None:
        arrays |= {f"schedule.{name}": array for name, array in schedule.state_dict().items()}
    arrays["losses"] = np.array(now.history.losses, np.float64)
    metadata = {
        "format": FORMAT,
        "settings": dict(settings),
        "epoch": now.epoch,
        "batch": now.batch,
        "images": now.images,
        "seconds": now.seconds,
        "learning_rate": now.learning_rate,
        "history": now.history.rows,
        "random": random.generator().bit_generator.state,
    }
    with _writing(folder / CHECKPOINT) as path:
        checkpoint.save_arrays(path, arrays, metadata)


class Checkpoint:
    """A checkpoint as it was read: first its ``settings``, then ``restore`` what they describe."""

    def __init__(self, folder: Path):
        self.path = folder / CHECKPOINT
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no run to resume in {folder}: no {CHECKPOINT}")
        self.arrays, self.metadata = checkpoint.load_arrays(self.path)
        if self.metadata.get("format") != FORMAT:
            raise ValueError(f"{self.path} is no checkpoint of a run of this version of cyconv")
        self.settings: dict[str, Any] = self.metadata["settings"]
        for target in (MODEL, HISTORY, CHECKPOINT):
            remove_left_over(folder / target)

    def restore(self, net: Module, optimizer: Optimizer, schedule: Schedule | None) -> Progress:
        """Put everything back as it was, and say where the training stands."""
        net.load_state_dict(self._part("net."))
        optimizer.load_state_dict(self._part("optimizer."))
        if schedule is not None:
            schedule.load_state_dict(self._part("schedule."))
        random.generator().bit_generator.state = self.metadata["random"]
        rows = [Epoch(*row) for row in self.metadata["history"]]
        return Progress(
            epoch=self.metadata["epoch"],
            batch=self.metadata["batch"],
            images=self.metadata["images"],
            seconds=self.metadata["seconds"],
            learning_rate=self.metadata["learning_rate"],
            history=History(rows, self.arrays["losses"].tolist()),
        )

    def _part(self, prefix: str) -> dict[str, np.ndarray]:
        return {
            name[len(prefix) :]: array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }
