"""Downloads, from a server on this machine: mirrors that fail, files that appear whole or not."""

import gzip
import hashlib
import http.server
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import cyconv
from cyconv import atomic
from cyconv.data import MNIST, FashionMNIST, fetch, mnist
from cyconv.data.idx import KnownFile, gz_limit

pytest.importorskip("pooch")

N = 200


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No data anywhere, and no proxy between the test and its server."""
    monkeypatch.delenv(fetch.ENV_DIR, raising=False)
    monkeypatch.setattr(fetch, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(fetch, "PATIENCE", 10.0)
    monkeypatch.setattr(fetch, "_silent", {})
    monkeypatch.setattr(mnist, "_said", set())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def served(monkeypatch):
    """Small published files: their gzipped content by name."""
    rng = np.random.default_rng(3)
    arrays = (
        rng.integers(0, 256, (N, 28, 28), dtype=np.uint8),
        np.arange(N, dtype=np.uint8) % 10,
    )
    known, files = [], {}
    for old, array in zip(mnist.MNIST_TRAIN, arrays):
        content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        content += array.tobytes()
        known.append(KnownFile(old.name, len(content), hashlib.sha256(content).hexdigest()))
        files[f"{old.name}.gz"] = gzip.compress(content)
    monkeypatch.setattr(mnist, "MNIST_TRAIN", tuple(known))
    monkeypatch.setattr(mnist, "FASHION_TRAIN", tuple(known))
    return files


@pytest.fixture
def server(served):
    """A server whose first folder in the path says how it behaves."""
    release = threading.Event()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            manner, name = self.path.strip("/").split("/")
            content = served[name]
            asked.append((manner, name))
            if manner == "missing":
                self.send_error(404)
                return
            if manner == "hanging":
                release.wait(30)
                return
            self.send_response(200)
            if manner in ("good", "cutoff", "stalling"):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                if manner == "good":
                    self.wfile.write(content)
                elif manner == "cutoff" or manner == "short":
                    self.wfile.write(content[: len(content) // 2])
                elif manner == "bad":
                    self.wfile.write(content[:100] + bytes([content[100] ^ 1]) + content[101:])
                elif manner == "html":
                    self.wfile.write(b"<html>please log in</html>")
                elif manner == "endless":
                    while not release.is_set():
                        self.wfile.write(bytes(65536))
                elif manner == "stalling":
                    self.wfile.write(content[:20_000])
                    self.wfile.flush()
                    release.wait(30)
                elif manner == "dripping":
                    while not release.wait(0.05):
                        self.wfile.write(b"x")
            except OSError:
                pass  # the client went away

        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        base = ""

    with Server(("127.0.0.1", 0), Handler) as running:
        running.base = f"http://127.0.0.1:{running.server_port}/"
        running.asked = asked
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        release.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def mirrors(server, monkeypatch):
    def use(*manners):
        if {"hanging", "stalling", "dripping"} & set(manners):
            monkeypatch.setattr(fetch, "PATIENCE", 1.0)
        urls = tuple(f"{server.base}{manner}/" for manner in manners)
        monkeypatch.setattr(mnist, "MNIST_MIRRORS", urls)
        monkeypatch.setattr(mnist, "FASHION_MIRRORS", urls)

    return use


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_download_and_find_again(tmp_path, served, server, mirrors, capfd):
    mirrors("good")
    data = MNIST()
    assert len(data) == N and data.source == str(tmp_path / "cache" / "mnist")
    assert files_in(tmp_path) == sorted(served)
    for name, content in served.items():
        assert (tmp_path / "cache" / "mnist" / name).read_bytes() == content
    assert capfd.readouterr().err.count("downloaded") == 2
    again = MNIST()
    np.testing.assert_array_equal(again.images, data.images)
    assert len(server.asked) == 2 and capfd.readouterr().err == ""


def test_download_into_root(tmp_path, served, mirrors):
    mirrors("good")
    assert len(FashionMNIST(root=tmp_path / "here")) == N
    assert files_in(tmp_path / "here" / "fashion-mnist") == sorted(served)


@pytest.mark.parametrize(
    "manner",
    ["missing", "cutoff", "short", "bad", "html", "endless", "stalling", "dripping", "empty"],
)
def test_next_mirror_serves(tmp_path, served, server, mirrors, manner):
    mirrors(manner, "good")
    start = time.monotonic()
    assert len(MNIST()) == N
    assert time.monotonic() - start < 8
    assert files_in(tmp_path) == sorted(served)  # nothing half-done lies about
    first, second = sorted(served)
    assert server.asked == [(manner, first), ("good", first), ("good", second)]


@pytest.mark.parametrize(
    "manner, reason",
    [
        ("missing", "HTTP status 404"),
        ("bad", "gzip file is damaged|SHA-256"),
        ("short", "cut off"),
        ("endless", "sent more than"),
        ("empty", "sent an empty file"),
        ("hanging", "nothing came for 1 s"),
        ("stalling", "nothing came for 1 s"),
        ("dripping", "nothing came for 1 s"),
    ],
)
def test_all_mirrors_fail(tmp_path, mirrors, manner, reason, capfd):
    mirrors(manner)
    with pytest.raises(FileNotFoundError, match=reason) as caught:
        FashionMNIST()
    assert "127.0.0.1" in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert files_in(tmp_path) == []
    assert len(MNIST()) == 10_000  # the built-in images
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "FASHION_MIRRORS", ("http://127.0.0.1:9/", "http://127.0.0.1:9/b/"))
    with pytest.raises(FileNotFoundError, match=r"no connection, 127"):
        FashionMNIST()
    assert not (tmp_path / "cache").exists()


def test_a_silent_mirror_is_asked_once(server, mirrors):
    mirrors("hanging")
    for _ in range(3):
        assert len(MNIST()) == 10_000
    assert len(server.asked) == 1


def test_without_pooch(monkeypatch, mirrors):
    mirrors("good")
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match="package pooch, which is not installed"):
        FashionMNIST()


def test_a_folder_that_cannot_be_written(tmp_path, mirrors, capfd):
    mirrors("good")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        FashionMNIST()
    assert len(MNIST()) == 10_000


def test_a_damaged_file_is_not_replaced(tmp_path, served, server, mirrors):
    """It may be all the user has: they are told, and nothing is deleted or fetched."""
    mirrors("good")
    MNIST()
    path = tmp_path / "cache" / "mnist" / sorted(served)[0]
    path.write_bytes(b"spoiled")
    with pytest.raises(ValueError, match="damaged"):
        MNIST()
    assert path.read_bytes() == b"spoiled" and len(server.asked) == 2


def test_atomic_file_leaves_the_old_content_until_it_is_committed(tmp_path):
    target = tmp_path / "file.gz"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic.atomic_file(target) as part:
        part.file.write(b"new")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old" and files_in(tmp_path) == ["file.gz"]
    with atomic.atomic_file(target) as part:
        part.file.write(b"new")
        assert target.read_bytes() == b"old" and part.name.suffix == ".gz"
        part.commit()
    assert target.read_bytes() == b"new" and files_in(tmp_path) == ["file.gz"]


def test_what_is_written_reaches_the_disk_before_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda fd: (events.append("fsync"), fsync(fd)))
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (events.append("rename"), replace(a, b)))
    with atomic.atomic_file(tmp_path / "file") as part:
        part.file.write(b"new")
        part.commit()
    assert events == ["fsync", "rename"] + ["fsync"] * (os.name == "posix")


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_in_the_middle_of_a_download(tmp_path, served, server):
    name = sorted(served)[0]
    code = (
        "from cyconv.data.fetch import Location\n"
        f"place = Location('MNIST', 'mnist', ['{server.base}stalling/'], {str(tmp_path)!r}, True)\n"
        f"place.download('{name}', {gz_limit(len(served[name]))}, lambda path, url: path)\n"
    )
    root = str(Path(cyconv.__file__).parents[1])
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root})
    try:
        folder = tmp_path / "mnist"
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size for path in folder.glob(".*.tmp*")):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (
        not (folder / name).exists() and "built-in" in MNIST(root=tmp_path, download=False).source
    )
