"""The command line: ``cyconv train``, ``eval``, ``predict`` and ``info``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import __version__, backends, config
from . import cli_train as training

ERROR = 2  # exit status


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the list of all options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(ERROR, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 for an error, 130 if it was interrupted."""
    args = build_parser().parse_args(argv)
    try:
        status = args.run(args)
        print(end="", flush=True)  # so that an error in writing is seen here
        return status
    except KeyboardInterrupt:
        print("cyconv: interrupted", file=sys.stderr)
        return training.STOPPED
    except BrokenPipeError:  # the reader of our output has gone, as in `cyconv info | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except (OSError, ValueError, FloatingPointError, ImportError, MemoryError) as error:
        return _say(error)


def _say(error: Exception) -> int:
    """Print it in one sentence; the exit status."""
    text = str(error) or "out of memory"
    if isinstance(error, OSError) and error.strerror is not None:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print(f"cyconv: error: {text}", file=sys.stderr)
    return ERROR


def _program() -> str:
    """How to call this program again."""
    name = os.path.basename(sys.argv[0])
    return "python -m cyconv" if name == "__main__.py" else "cyconv"


def build_parser() -> Parser:
    parser = Parser(
        prog=_program(),
        description="Train and use small convolutional networks.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cyconv {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    _add_eval(commands)
    _add_predict(commands)
    info = _command(commands, "info", "print what was built, what is in use, and why", _info)
    _add_machine(info)
    return parser


def _command(commands: Any, name: str, text: str, run: Callable[[Any], int]) -> Parser:
    command: Parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    command.set_defaults(run=run)
    return command


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", "train a net and leave it in a run folder", _train)
    add = parser.add_argument
    # A default of SUPPRESS leaves out what was not given: resuming has to know the difference.
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    fixed, free = training.FIXED_DEFAULTS, training.FREE_DEFAULTS
    best = training.OPTIMIZER_DEFAULTS
    rates = ", ".join(f"{name} {values['lr']:g}" for name, values in best.items())
    add("--net", choices=training.NETS, help=f"default {fixed['net']}", **absent)
    add("--data", choices=training.DATASETS, help=f"default {fixed['data']}", **absent)
    add("--epochs", type=_integer(1), metavar="N", help=f"default {fixed['epochs']}", **absent)
    add(
        "--batch-size",
        type=_integer(1),
        metavar="N",
        help=f"images per step of the optimiser, default {fixed['batch_size']}",
        **absent,
    )
    add(
        "--optimizer",
        choices=training.OPTIMIZERS,
        help=f"default {fixed['optimizer']}; sgd's momentum is Nesterov's",
        **absent,
    )
    add("--lr", type=_number(0), metavar="X", help=f"learning rate, default {rates}", **absent)
    add(
        "--momentum",
        type=_number(0),
        metavar="X",
        help=f"of sgd, default {best['sgd']['momentum']}",
        **absent,
    )
    add(
        "--weight-decay",
        type=_number(0),
        metavar="X",
        help=f"default 0, for adamw {best['adamw']['weight_decay']}",
        **absent,
    )
    add(
        "--schedule",
        choices=training.SCHEDULES,
        help=f"of the learning rate, default {fixed['schedule']}; step: to a tenth, twice; "
        f"cosine: after a rise over a tenth of the batches, at most {training.WARMUP}",
        **absent,
    )
    add("--seed", type=_integer(0), metavar="N", help=f"default {fixed['seed']}", **absent)
    add("--limit", type=_integer(1), metavar="N", help="train on the first N images", **absent)
    add("--augment", action="store_true", help="shift images, and mirror all but digits", **absent)
    add(
        "--out",
        metavar="FOLDER",
        help="the run folder; default runs/NET-DATA-N with a new N",
    )
    add(
        "--resume",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="go on with this run, the one in --out, or the newest in runs/",
    )
    add(
        "--save-every",
        type=_number(0),
        metavar="SECONDS",
        help=f"time between checkpoints within an epoch, default {free['save_every']:g}",
        **absent,
    )
    add(
        "--plots",
        action=argparse.BooleanOptionalAction,
        help="leave pictures, by matplotlib; default yes",
        **absent,
    )
    add("--quiet", action="store_true", help="print nothing but warnings and errors", **absent)
    _add_data_dir(parser)
    _add_machine(parser)
    _add_device(parser)


def _add_eval(commands: Any) -> None:
    parser = _command(commands, "eval", "measure a trained net's test accuracy", _eval)
    _add_model(parser)
    parser.add_argument(
        "--data", choices=training.DATASETS, help="default: what the net was trained with"
    )
    _add_data_dir(parser)
    _add_machine(parser)
    _add_device(parser)


def _add_predict(commands: Any) -> None:
    parser = _command(commands, "predict", "say what is on an image", _predict)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file of any common format")
    _add_model(parser, "--model")
    _add_machine(parser)
    _add_device(parser)


def _add_model(parser: Parser, name: str = "model") -> None:
    optional: dict[str, Any] = {} if name.startswith("-") else {"nargs": "?"}
    parser.add_argument(
        name,
        metavar="RUN_OR_FILE",
        help="a run folder or a model file; default the newest run in runs/",
        **optional,
    )


def _add_data_dir(parser: Parser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        default=argparse.SUPPRESS,
        help="where the data set lies; default $CYCONV_DATA_DIR, then the user's cache",
    )


def _add_machine(parser: Parser) -> None:
    add = parser.add_argument
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}
    threads = _integer(1, config.MOST_THREADS)
    add("--threads", type=threads, metavar="N", help="default: all processors", **absent)
    add("--backend", choices=("auto", "cython", "numpy"), help="default auto", **absent)


def _add_device(parser: Parser) -> None:
    text = "cpu, or cuda for an NVIDIA GPU, which needs CuPy; default cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), help=text, default=argparse.SUPPRESS)


def _integer(least: int, most: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            bound = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be a whole number, {bound}, got {text!r}")
        return value

    return convert


def _number(least: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"must be a number, at least {least}, got {text!r}")
        return value

    return convert


# ------------------------------------------------------------------ the commands


def _train(args: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(args).items() if name in _TRAIN_OPTIONS}
    if given.get("backend") == "auto":
        del given["backend"]
    if "data_dir" in given:
        given["data_dir"] = os.path.abspath(given["data_dir"])
    return training.run(given, args.out, args.resume, _program())


_TRAIN_OPTIONS = {*training.FIXED_DEFAULTS, *training.FREE_DEFAULTS}


def _eval(args: argparse.Namespace) -> int:
    from . import checkpoint, data, runfolder, train

    _use_machine(args)
    path = runfolder.model_file(args.model)
    net = checkpoint.load(path).to(getattr(args, "device", "cpu"))
    facts = checkpoint.load_metadata(path)
    name = args.data or facts.get("data")
    if not isinstance(name, str) or name not in training.DATASETS:
        raise ValueError(f"{path} does not say what it was trained with; name it by --data")
    test = training.DATASETS[name](train=False, root=getattr(args, "data_dir", None))
    loader = data.DataLoader(test, train.EVALUATION_BATCH)
    found = train.evaluate(net, loader)
    print(
        f"{path}: test accuracy {found.accuracy:.4f}, loss {found.loss:.4f} "
        f"on {len(test):,} images of {name}"
    )
    return 0


def _predict(args: argparse.Namespace) -> int:
    import numpy as np

    from . import checkpoint, runfolder, train
    from .readimage import read_image

    _use_machine(args)
    path = runfolder.model_file(args.model)
    net = checkpoint.load(path).to(getattr(args, "device", "cpu"))
    facts = checkpoint.load_metadata(path)
    shape, classes = facts.get("image_shape"), facts.get("classes")
    if not isinstance(shape, list) or not isinstance(classes, list):
        raise ValueError(f"{path} does not say what its images and classes are: not of a run")
    images, status = [], 0
    for file in args.images:
        try:
            images.append((file, read_image(file, shape, digit=facts.get("data") == "mnist")))
        except (OSError, ValueError) as error:  # the others still get their answers
            status = _say(error)
    if not images:
        return status
    probabilities = train.predict(net, np.stack([image.pixels for _, image in images]))
    if probabilities.shape[1] != len(classes):
        raise ValueError(f"{path} names {len(classes)} classes, not {len(probabilities[0])}")
    for (file, image), row in zip(images, probabilities):
        best = np.argsort(-row, kind="stable")[:3]
        answer = ", ".join(f"{classes[k]} ({100 * row[k]:.1f} %)" for k in best)
        print(f"{file}: {answer}{image.note}")
    return status


def _info(args: argparse.Namespace) -> int:
    _use_machine(args)
    config.show_config()
    return 0


def _use_machine(args: argparse.Namespace) -> None:
    if hasattr(args, "threads"):
        config.set_num_threads(args.threads)
    if getattr(args, "backend", "auto") != "auto":
        backends.set_backend(args.backend)
