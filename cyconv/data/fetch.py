"""Where the files of the published data sets are looked for, and how they are downloaded."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from ..arguments import flag
from ..atomic import PartFile, atomic_file, path_in
from ..progress import on_terminal

T = TypeVar("T")

ENV_DIR = "CYCONV_DATA_DIR"
PATIENCE = 10.0  # seconds in which a mirror has to deliver something
MEMORY = 600.0  # seconds for which a mirror that was silent is not asked again
_CHUNK = 1 << 14  # bytes; less than this in PATIENCE counts as silence

# Mirrors that were silent, and when (seconds of time.monotonic). Behind a firewall that drops
# packets each costs PATIENCE, and the test images should not wait for what the training images did.
_silent: dict[str, float] = {}


def cache_dir() -> Path:
    """The user's cache folder for cyconv: what the platform prescribes, XDG_CACHE_HOME on Linux."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry in the password file, as in some containers
        import tempfile

        home = Path(tempfile.gettempdir())
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local", "cyconv", "Cache")
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "cyconv"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "cyconv"


class DataNotFound(FileNotFoundError):
    """A file of a data set is nowhere: the message says what was tried, and what the user can do.

    ``reason`` is the part that says why it could not be downloaded.
    """

    def __init__(self, title: str, name: str, folders: Sequence[Path], reason: str):
        given = os.environ.get(ENV_DIR)
        super().__init__(
            f"{title}: there is no {name} in {', '.join(map(str, folders))}, and {reason}. "
            f"Download it elsewhere and put it into {folders[0]}, or into the folder that the "
            f"environment variable {ENV_DIR} (now {given or 'not set'}) names"
        )
        self.reason = reason


class Location:
    """Where the files of one data set may lie, and where to get them.

    Looked for in ``root`` if it is given, else in the folder that CYCONV_DATA_DIR names and then in
    the user's cache: in each first in the subfolder ``name``, then in the folder itself. With
    ``own_folder`` a folder that data sets share is not searched itself, only its subfolder.
    Downloads go to the subfolder of ``root`` or of the cache.
    """

    def __init__(
        self,
        title: str,
        name: str,
        mirrors: Sequence[str],
        root: str | os.PathLike[str] | None,
        download: bool,
        own_folder: bool = False,
    ):
        given = (os.environ.get(ENV_DIR) or None) if root is None else root
        bases = []
        if given is not None:  # pathlib's expanduser refuses a user that is not known
            bases.append(Path(os.path.expanduser(path_in(f"{title}: root", given))))
        if root is None:
            bases.append(cache_dir())
        self.title = title
        self.mirrors = list(mirrors)
        self.allowed = flag(f"{title}: download", download)
        self.bases = bases
        self.folders = [
            folder
            for base in bases
            for folder in ([base / name] if own_folder and root is None else [base / name, base])
        ]
        self.target = bases[-1] / name

    def find(self, *names: str) -> Path | None:
        """The first file of one of these names; None if there is none."""
        for folder in self.folders:
            for name in names:
                if os.path.isfile(folder / name):
                    return folder / name
        return None

    def download(self, name: str, max_bytes: int, check: Callable[[Path, str], T]) -> T:
        """Download a file from the first mirror that delivers what passes ``check``.

        It appears in the folder ``target`` whole and checked, or not at all. ``check(path, url)``
        reads it, raises ValueError if it is not the one expected, and what it returns is returned.
        DataNotFound, naming each mirror and what was wrong, if all fail.
        """
        if not self.allowed:
            raise DataNotFound(self.title, name, self.folders, "download=False")
        try:
            result = self._from_mirrors(name, max_bytes, check)
        except OSError as error:
            reason = f"it could not be downloaded ({error})"
            raise DataNotFound(self.title, name, self.folders, reason) from None
        print(f"cyconv: downloaded {self.title}'s {name} to {self.target}", file=sys.stderr)
        return result

    def _from_mirrors(self, name: str, max_bytes: int, check: Callable[[Path, str], T]) -> T:
        reasons = []
        for mirror in list(self.mirrors):
            try:
                if time.monotonic() - _silent.get(mirror, -MEMORY) < MEMORY:
                    raise TimeoutError("was silent before")
                with _in_folder(self.target / name) as file:
                    _http_get(mirror + name, file, max_bytes)
                    result = check(file.name, mirror + name)
                    file.commit()
                    return result
            except (OSError, ValueError, ImportError) as error:
                self.mirrors.remove(mirror)  # the next file should not wait for it again
                reasons.append(f"{mirror.split('/')[2]}: {_in_short(error)}")
        raise ConnectionError(", ".join(reasons) or "no mirror is left")


@contextmanager
def _in_folder(target: Path) -> Iterator[PartFile]:
    """``atomic_file`` that makes the folders of ``target``, and leaves none that stay empty."""
    missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(target) as part:
            yield part
    finally:
        with suppress(OSError):  # folders with something in them stay
            for folder in missing:
                folder.rmdir()


class _Sink:
    """What the HTTP client writes into: counts, and stops a mirror that sends too much."""

    def __init__(self, file: IO[bytes], max_bytes: int):
        self.file = file
        self.max_bytes = max_bytes
        self.received = 0

    def write(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self.max_bytes:
            raise ValueError(f"sent more than {self.max_bytes} bytes, too many for this file")
        self.file.write(data)

    def flush(self) -> None:
        """Called after each chunk; the file is not buffered."""


def _http_get(url: str, file: PartFile, max_bytes: int) -> None:
    """Fetch ``url`` into ``file``; TimeoutError if nothing comes for PATIENCE seconds.

    In a thread of its own, because no setting of the HTTP client bounds the look-up of the name,
    the tries of several addresses and a server that sends a byte a second.
    """
    import pooch

    sink = _Sink(file.file, max_bytes)
    fetch = pooch.HTTPDownloader(
        progressbar=on_terminal(),
        chunk_size=_CHUNK,
        timeout=3 * PATIENCE,  # ends the thread some time after it was given up
        headers={"Accept-Encoding": "identity"},
    )
    errors: list[BaseException] = []

    def work() -> None:
        try:
            fetch(url, sink, None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="cyconv-download", daemon=True)
    thread.start()
    received = 0
    while thread.is_alive():
        thread.join(PATIENCE)
        if thread.is_alive() and sink.received == received:
            _silent[url[: url.rindex("/") + 1]] = time.monotonic()
            raise TimeoutError(f"nothing came for {PATIENCE:g} s")
        received = sink.received
    if errors:
        raise errors.pop()
    if not sink.received:
        raise ValueError("sent an empty file")


def _in_short(error: Any) -> str:
    """One phrase: the HTTP client's own messages fill a paragraph."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, ImportError):
        return "downloads need the package pooch, which is not installed"
    if type(error).__module__.split(".")[0] in ("requests", "urllib3"):
        kind = type(error).__name__
        return "no connection" if kind == "ConnectionError" else kind
    return str(error)
