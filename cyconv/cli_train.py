"""``cyconv train``: options into a net, an optimiser and loaders; a run folder; stop and resume."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from . import backends, config, data, optim, random, runfolder
from .nn import Module, models
from .optim import Optimizer
from .schedules import CosineLR, OneCycleLR, Schedule, StepLR
from .train import EVALUATION_BATCH, Progress, fit

STOPPED = 130  # exit status: what shells report for a program that Ctrl-C ended

DATASETS: dict[str, Any] = {
    "mnist": data.MNIST,
    "fashion-mnist": data.FashionMNIST,
    "cifar10": data.CIFAR10,
}
AUGMENTATIONS: dict[str, tuple[Any, ...]] = {
    "mnist": (data.RandomCrop(2),),  # no flip: the mirror image of a digit is none
    "fashion-mnist": (data.RandomCrop(2), data.HorizontalFlip()),
    "cifar10": (data.RandomCrop(4), data.HorizontalFlip()),
}
NETS = ("lenet", "lenet-bn", "vgg", "resnet20")
OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine", "onecycle")

# What the numbers depend on: a run that is resumed has to keep it.
FIXED_DEFAULTS: dict[str, Any] = {
    "net": "lenet",
    "data": "mnist",
    "epochs": 5,
    "batch_size": 64,
    "optimizer": "adam",
    "lr": None,  # that of the optimiser, below
    "momentum": None,
    "weight_decay": None,
    "schedule": "cosine",
    "seed": 0,
    "backend": "auto",
    "limit": None,
    "augment": False,
}
# What may be another when the run is resumed.
FREE_DEFAULTS: dict[str, Any] = {
    "data_dir": None,
    "threads": None,
    "device": "cpu",
    "save_every": 30.0,
    "plots": True,
    "quiet": False,
}
OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0},
    "adam": {"lr": 0.003, "weight_decay": 0.0},
    "adamw": {"lr": 0.003, "weight_decay": 0.01},
}
WARMUP = 100  # batches, for the cosine schedule


def run(given: Mapping[str, Any], out: str | None, resume: str | None, command: str) -> int:
    """Train as the options say; ``given`` are those on the command line.

    ``resume`` is None for a new run, "" to go on with ``out`` or the newest run, else its folder.
    Returns the exit status. ``command`` is how to call the program again.
    """
    if resume is not None:
        folder = _folder_to_resume(resume, out)
        with runfolder.locked(folder):
            return _resumed_job(given, folder).train(folder, command)
    settings = complete(given)
    _use(settings)
    job = Job(settings)
    folder = runfolder.new_folder(f"{settings['net']}-{settings['data']}", out)
    with runfolder.locked(folder):
        return job.train(folder, command)


def _resumed_job(given: Mapping[str, Any], folder: Path) -> Job:
    saved = runfolder.Checkpoint(folder)
    try:
        settings = resumed(given, saved.settings, folder)
        _use(settings)
        job = Job(settings)
        job.go_on(saved)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{saved.path} is no checkpoint of a run of this version of cyconv: {error!r}"
        ) from error
    return job


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a new run: what was given, else the defaults."""
    settings = {**FIXED_DEFAULTS, **FREE_DEFAULTS, **given}
    for name, value in OPTIMIZER_DEFAULTS[settings["optimizer"]].items():
        if settings[name] is None:
            settings[name] = value
    if settings["momentum"] is not None and settings["optimizer"] != "sgd":
        raise ValueError(
            f"--momentum is for --optimizer sgd; {settings['optimizer']} has none to set"
        )
    return settings


def resumed(given: Mapping[str, Any], saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a run that goes on; ValueError if an option contradicts them."""
    for name in FIXED_DEFAULTS:
        if name in given and given[name] != saved[name]:
            option = f"--{name.replace('_', '-')}"
            was = "without it" if saved[name] in (None, False) else f"with {saved[name]}"
            raise ValueError(
                f"{option} {given[name]} contradicts the run in {folder}, which was started {was}; "
                "leave the option out, or start a new run"
            )
    free = {name: given[name] for name in FREE_DEFAULTS if name in given}
    return {**FREE_DEFAULTS, **saved, **free}


def _folder_to_resume(resume: str, out: str | None) -> Path:
    if resume and out and Path(resume).resolve() != Path(out).resolve():
        raise ValueError(
            f"--out {out} contradicts --resume {resume}: a run goes on in its own folder"
        )
    folder = Path(resume or out or runfolder.newest(runfolder.CHECKPOINT))
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no run to resume in {folder}: it is not a folder")
    return folder


def _use(settings: dict[str, Any]) -> None:
    """Set threads and backend; note which backend "auto" is, for its last bits are its own.

    Also refuse a device that is not there, before anything is read or written.
    """
    if settings["device"] == "cuda":
        backends.use_gpu()
    if settings["threads"] is not None:
        config.set_num_threads(settings["threads"])
    if settings["backend"] != "auto":
        backends.set_backend(settings["backend"])
    settings["backend"] = backends.backend_name()


class Job:
    """A training as the settings describe it."""

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings
        dataset, root = DATASETS[settings["data"]], settings["data_dir"]
        train, self.test = dataset(train=True, root=root), dataset(train=False, root=root)
        self.source = train.source
        limit = settings["limit"]
        if limit is not None:
            if limit > len(train):
                raise ValueError(f"--limit {limit}: there are only {len(train)} training images")
            train = data.Subset(train, range(limit))
        self.classes = list(self.test.classes)
        self.image_shape = self.test.images.shape[1:]
        self.images = [len(train), len(self.test)]
        random.seed(settings["seed"])
        net = build_net(settings["net"], len(self.classes), self.image_shape)
        self.net = net.to(settings["device"])
        self.loader = data.DataLoader(
            train,
            settings["batch_size"],
            shuffle=True,
            seed=settings["seed"],
            augment=AUGMENTATIONS[settings["data"]] if settings["augment"] else (),
        )
        self.steps = len(self.loader) * settings["epochs"]
        self.optimizer = build_optimizer(self.net, settings)
        self.schedule = build_schedule(self.optimizer, settings["schedule"], self.steps)
        self.now = Progress()

    def go_on(self, saved: runfolder.Checkpoint) -> None:
        """Restore a checkpoint; ValueError if the data are not those of the run."""
        if self.settings["images"] != self.images:
            raise ValueError(
                f"the run in {saved.path.parent} has seen {self.settings['images'][0]} training "
                f"and {self.settings['images'][1]} test images, but here are {self.images[0]} and "
                f"{self.images[1]}"
            )
        self.now = saved.restore(self.net, self.optimizer, self.schedule)

    def train(self, folder: Path, command: str) -> int:
        self.settings["images"] = self.images
        if not self.settings["quiet"]:
            print("\n".join(self.describe(folder)), flush=True)
        saver = Saver(self, folder)
        with Interrupts(self.now) as interrupts:
            if self.now.epoch == self.now.batch == 0:
                saver.save_checkpoint()
            fit(
                self.net,
                self.loader,
                data.DataLoader(self.test, EVALUATION_BATCH),
                optimizer=self.optimizer,
                schedule=self.schedule,
                epochs=self.settings["epochs"],
                progress=not self.settings["quiet"],
                callbacks=(interrupts, saver),
                start=self.now,
            )
            if not (folder / runfolder.MODEL).is_file():  # stopped in the first epoch, say
                saver.save_all()
            elif self.now.batch:  # the model stays that of the last epoch's end
                saver.save_checkpoint()
        if self.now.epoch < self.settings["epochs"]:
            print(
                f"cyconv: stopped in epoch {self.now.epoch} after {self.now.batch} of "
                f"{len(self.loader)} batches and saved. Go on with:\n"
                f"{command} train --resume={shlex.quote(str(folder))}",
                file=sys.stderr,
            )
            return STOPPED
        self._finish(folder)
        return 0

    def describe(self, folder: Path) -> list[str]:
        """What is going to happen, in a few lines."""
        chosen, now = self.settings, self.now
        epochs, batches = chosen["epochs"], len(self.loader)
        lines = [
            f"{chosen['net']}, {self.net.num_parameters():,} parameters, on {self.images[0]:,} "
            f"images of {chosen['data']} ({self.source})",
            f"{_counted(epochs, 'epoch')} of {_counted(batches, 'batch', 'es')}, "
            f"{chosen['optimizer']}, {chosen['schedule']} learning rate {chosen['lr']:g}, "
            f"{self._machine()}, into {folder}",
        ]
        if now.epoch == epochs:
            lines.append("This run is complete")
        elif now.history.losses:
            lines.append(f"Going on in epoch {now.epoch} after batch {now.batch}")
        return lines

    def _machine(self) -> str:
        if self.settings["device"] == "cuda":
            return f"on the GPU ({backends.describe_gpu()})"
        threads = _counted(config.get_num_threads(), "thread")
        return f"{self.settings['backend']} backend, {threads}"

    def _finish(self, folder: Path) -> None:
        """Pictures, and a word about what is there now."""
        written = [runfolder.MODEL, runfolder.HISTORY]
        if self.settings["plots"]:
            try:
                from .plots import save_all
            except ImportError:
                print("cyconv: no pictures, because matplotlib is not installed", file=sys.stderr)
            else:
                history = self.now.history
                written += save_all(folder, self.net, self.test, history, len(self.loader))
        if not self.settings["quiet"]:
            print(f"In {folder}: {', '.join(written)}")


def _counted(n: int, noun: str, plural: str = "s") -> str:
    return f"{n:,} {noun}{'' if n == 1 else plural}"


class Saver:
    """The callback that keeps the run folder up to date."""

    def __init__(self, job: Job, folder: Path):
        self.job = job
        self.folder = folder
        self.last = time.monotonic()

    def __call__(self, now: Progress) -> None:
        if now.batch == 0:
            self.save_all()
        elif time.monotonic() - self.last >= self.job.settings["save_every"]:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        job = self.job
        runfolder.save_checkpoint(
            self.folder, job.now, job.net, job.optimizer, job.schedule, job.settings
        )
        self.last = time.monotonic()

    def save_all(self) -> None:
        job, rows = self.job, self.job.now.history.rows
        runfolder.save_history(self.folder, job.now.history)
        metadata = {
            "net": job.settings["net"],
            "data": job.settings["data"],
            "classes": job.classes,
            "image_shape": list(job.image_shape),
            "epochs": job.now.epoch,
            "test_accuracy": rows[-1].test_accuracy if rows else None,
        }
        runfolder.save_model(self.folder, job.net, metadata)
        self.save_checkpoint()  # the last, so that what is killed before is done again


class Interrupts:
    """Ctrl-C and SIGTERM stop the training after the batch that is running; again, at once."""

    def __init__(self, now: Progress):
        self.now = now
        self.asked = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __call__(self, now: Progress) -> None:
        now.stop = now.stop or self.asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = self.now.stop = True
        with suppress(OSError):  # print could be in the middle of a line of its own
            os.write(2, b"\ncyconv: stopping after this batch; once more to stop at once\n")


def build_net(name: str, classes: int, image_shape: tuple[int, ...]) -> Module:
    """The net of this name for images (C, H, W) of so many classes, with new random weights."""
    channels, size = image_shape[0], image_shape[1]
    builders: dict[str, Callable[[], Module]] = {
        "lenet": lambda: models.lenet(classes, channels, size),
        "lenet-bn": lambda: models.lenet_bn(classes, channels, size),
        "vgg": lambda: models.vgg_small(classes, channels),
        "resnet20": lambda: models.resnet20(classes, channels),
    }
    return builders[name]()


def build_optimizer(net: Module, settings: Mapping[str, Any]) -> Optimizer:
    lr, decay, momentum = (settings[name] for name in ("lr", "weight_decay", "momentum"))
    if settings["optimizer"] == "adam":
        return optim.Adam(net.parameters(), lr, weight_decay=decay)
    if settings["optimizer"] == "adamw":
        return optim.AdamW(net.parameters(), lr, weight_decay=decay)
    return optim.SGD(net.parameters(), lr, momentum, weight_decay=decay, nesterov=momentum > 0)


def build_schedule(optimizer: Optimizer, name: str, steps: int) -> Schedule | None:
    """The schedule of this name over so many batches."""
    if name == "step":
        return StepLR(optimizer, max(1, -(-steps // 3)))  # two drops to a tenth
    if name == "cosine":
        return CosineLR(optimizer, max(1, steps), warmup_steps=min(WARMUP, steps // 10))
    if name == "onecycle":
        return OneCycleLR(optimizer, max(1, steps))
    return None
