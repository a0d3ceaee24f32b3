"""The memory that training steps take, of a process of their own: ``python -m benchmarks.memory``.

Prints JSON: ``imports``, what lay in memory once the library was imported; ``steps``, how far the
memory rose above what it was before the net was built; both in bytes; and ``losses``. Linux only.
"""

from __future__ import annotations

import argparse
import importlib
import json
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")
COMPILED = "cyconv, compiled"  # through ``compile_training``
LIBRARIES = {
    COMPILED: "cyconv",
    "cyconv": "cyconv",
    "PyTorch": "torch",
    "PyTorch, channels_last": "torch",
}
# what they import no sooner than for the first step
LATER = {
    "cyconv": ("cyconv.nn", "cyconv.optim", "cyconv.compiled_training"),
    "torch": ("torch._dynamo",),
}
STEPS = 5  # the second one already has the gradients of the first in memory


def resident(what: str) -> int:
    """Bytes in memory now ("VmRSS"), or at most so far ("VmHWM")."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{what}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"{STATUS} does not say {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("net", help="its name in the tables")
    parser.add_argument("batch", type=int)
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    library = importlib.import_module(LIBRARIES[options.library])
    for name in LATER[library.__name__]:
        importlib.import_module(name)
    imports = resident("VmRSS")
    # every library has its first weights from cyconv; they are no part of what is measured
    for name in LATER["cyconv"]:
        importlib.import_module(name)
    from cyconv.backends.memory import Arena, memory_from

    from . import deep

    library.set_num_threads(options.threads)
    if options.net in deep.NETS:
        with memory_from(Arena()):  # the net they come from leaves nothing to be used again
            deep.state(options.net)
    before = resident("VmRSS")
    with suppress(OSError):  # what was allocated while importing, and is gone, counts no more
        Path("/proc/self/clear_refs").write_text("5")
    step = deep.step_of(options.library, options.net, options.batch)
    losses = [step() for _ in range(STEPS)]
    steps = resident("VmHWM") - before
    print(json.dumps({"imports": imports, "steps": steps, "losses": losses}))


if __name__ == "__main__":
    main()
