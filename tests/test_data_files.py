"""Data sets from files: where they are looked for, and what a damaged file leads to."""

import dataclasses
import gzip
import hashlib
import io
import os
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest

from cyconv.data import CIFAR10, MNIST, FashionMNIST, cifar, fetch, mnist
from cyconv.data.idx import KnownFile

GIVEN = os.environ.get(fetch.ENV_DIR)
N = 40  # images in the small stand-ins for the published files


def idx_bytes(array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def make_mnist(seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (N, 28, 28), dtype=np.uint8)
    return images, rng.permutation(np.arange(N, dtype=np.uint8) % 10)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data anywhere, and no network."""
    monkeypatch.delenv(fetch.ENV_DIR, raising=False)
    monkeypatch.setattr(fetch, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(fetch, "_http_get", no_network)


def no_network(url, file, max_bytes):
    raise ConnectionError("the network is off")


@pytest.fixture
def small(monkeypatch):
    """Small published files: (images, labels) and the two contents."""
    images, labels = make_mnist(1)
    contents = idx_bytes(images), idx_bytes(labels)
    known = tuple(
        KnownFile(k.name, len(c), sha256=hashlib.sha256(c).hexdigest())
        for k, c in zip(mnist.MNIST_TRAIN, contents)
    )
    monkeypatch.setattr(mnist, "MNIST_TRAIN", known)
    monkeypatch.setattr(mnist, "FASHION_TRAIN", known)
    return images, labels, contents


def write(folder, contents, packed):
    folder.mkdir(parents=True, exist_ok=True)
    for known, content in zip(mnist.MNIST_TRAIN, contents):
        if packed:
            (folder / f"{known.name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / known.name).write_bytes(content)


# ---------------------------------------------------------------- the real MNIST


@pytest.mark.skipif(not GIVEN, reason="needs the full MNIST in CYCONV_DATA_DIR")
def test_the_full_mnist():
    for train, n in ((True, 60_000), (False, 10_000)):
        data = MNIST(train, root=GIVEN, download=False)
        assert len(data) == n and GIVEN in data.source
        first = MNIST.built_in(train)
        np.testing.assert_array_equal(data.images[: len(first)], first.images)
        np.testing.assert_array_equal(data.labels[: len(first)], first.labels)


@pytest.mark.parametrize("train, n", [(True, 10_000), (False, 2_000)])
def test_built_in_images(train, n):
    data = MNIST.built_in(train)
    assert data.images.shape == (n, 1, 28, 28) and data.images.dtype == np.uint8
    assert data.labels.shape == (n,) and data.labels.dtype == np.int64
    assert data.classes == tuple("0123456789")
    # facts of MNIST that hold for no other data: the first labels, which everybody has seen
    assert data.labels[:10].tolist() == (
        [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] if train else [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    )
    assert np.bincount(data.labels).min() > n * 0.08
    assert 0.12 < data.images.mean() / 255 < 0.14
    image, label = data[0]
    assert image.shape == (1, 28, 28) and image.dtype == np.float32 and image.max() <= 1
    assert type(label) is int


def test_built_in_images_serve_without_file_and_network_and_say_so(capfd):
    data = MNIST(train=False)
    assert len(data) == 2_000 and "built-in" in data.source
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and "built-in" in said[0] and "cache" in said[0]
    assert "the network is off" in said[0]
    MNIST.built_in(False)
    assert capfd.readouterr().err == ""  # asked for: nothing to say


def test_download_false_asks_no_mirror(monkeypatch, capfd):
    monkeypatch.setattr(fetch, "_http_get", lambda *a: pytest.fail("asked the network"))
    assert len(MNIST(train=False, download=False)) == 2_000
    assert "download=False" in capfd.readouterr().err
    for kind in (FashionMNIST, CIFAR10):
        with pytest.raises(FileNotFoundError, match="download=False"):
            kind(download=False)


# ---------------------------------------------------------------- where files are looked for


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["env/mnist", "env", "cache/mnist", "cache"])
def test_mnist_is_found(tmp_path, monkeypatch, small, place, packed, capfd):
    images, labels, contents = small
    monkeypatch.setenv(fetch.ENV_DIR, str(tmp_path / "env"))
    write(tmp_path / place, contents, packed)
    data = MNIST(download=False)
    np.testing.assert_array_equal(data.images[:, 0], images)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.source == str(tmp_path / place)
    assert capfd.readouterr().err == ""


def test_root_is_searched_alone(tmp_path, monkeypatch, small):
    write(tmp_path / "env", small[2], False)
    write(tmp_path / "cache" / "mnist", small[2], False)
    monkeypatch.setenv(fetch.ENV_DIR, str(tmp_path / "env"))
    assert "built-in" in MNIST(root=tmp_path / "other", download=False).source
    assert MNIST(root=str(tmp_path / "env")).source == str(tmp_path / "env")


def test_environment_comes_before_the_cache(tmp_path, monkeypatch, small):
    write(tmp_path / "env" / "mnist", small[2], True)
    write(tmp_path / "cache" / "mnist", small[2], True)
    monkeypatch.setenv(fetch.ENV_DIR, str(tmp_path / "env"))
    assert MNIST().source == str(tmp_path / "env" / "mnist")


def test_fashion_is_not_confused_with_mnist(tmp_path, monkeypatch, small):
    images, _, contents = small
    monkeypatch.setenv(fetch.ENV_DIR, str(tmp_path))
    write(tmp_path, contents, True)  # these are MNIST's, by their place
    with pytest.raises(FileNotFoundError, match="FashionMNIST"):
        FashionMNIST(download=False)
    write(tmp_path / "fashion-mnist", contents, True)
    data = FashionMNIST(download=False)
    np.testing.assert_array_equal(data.images[:, 0], images)
    assert data.classes[9] == "ankle boot"
    assert len(FashionMNIST(root=tmp_path / "fashion-mnist", download=False)) == N


@pytest.mark.parametrize("kind", [FashionMNIST, CIFAR10])
def test_the_error_says_what_was_tried_and_what_to_do(tmp_path, monkeypatch, kind):
    monkeypatch.setenv(fetch.ENV_DIR, str(tmp_path / "env"))
    with pytest.raises(FileNotFoundError) as caught:
        kind()
    text = str(caught.value)
    mirrors = mnist.FASHION_MIRRORS if kind is FashionMNIST else cifar.MIRRORS
    for part in (kind.__name__, fetch.ENV_DIR, str(tmp_path / "env"), str(tmp_path / "cache")):
        assert part in text
    for mirror in mirrors:
        assert mirror.split("/")[2] in text


def test_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(fetch.Path, "home", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(fetch.sys, "platform", "linux")
    assert fetch.cache_dir() == tmp_path / "xdg" / "cyconv"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.cache_dir() == tmp_path / ".cache" / "cyconv"
    monkeypatch.setattr(fetch.sys, "platform", "darwin")
    assert fetch.cache_dir() == tmp_path / "Library" / "Caches" / "cyconv"

    def homeless():
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(fetch.Path, "home", homeless)
    assert fetch.cache_dir().is_absolute()


# ---------------------------------------------------------------- damaged files


def flipped(content):
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


def huge_header(content):
    return content[:4] + struct.pack(">3I", 2**31, 28, 28) + content[16:]


DAMAGES = {
    "flipped byte": (flipped, "SHA-256"),
    "cut off": (lambda c: c[:-100], "expected .* bytes"),
    "empty": (lambda c: b"", "expected .* bytes"),
    "too long": (lambda c: c + b"x", "expected .* bytes"),
    "another magic": (lambda c: b"\0\0\x0d\3" + c[4:], "00000803, found 00000d03"),
    "huge header": (huge_header, r"2147483648, 28, 28\), expected \(40, 28, 28"),
    "wrong header": (lambda c: c[:4] + struct.pack(">3I", 20, 56, 28) + c[16:], "expected"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file(tmp_path, small, damage, packed):
    change, message = DAMAGES[damage]
    images, labels = small[2]
    write(tmp_path, (change(images), labels), packed)
    with pytest.raises(ValueError, match=message) as caught:
        MNIST(root=tmp_path)
    name = mnist.MNIST_TRAIN[0].name
    assert str(tmp_path / name) in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("spoil", [lambda g: g[:-20], lambda g: b"PK" + g[2:], lambda g: g + g])
def test_damaged_gzip(tmp_path, small, spoil):
    write(tmp_path, small[2], True)
    path = tmp_path / f"{mnist.MNIST_TRAIN[0].name}.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match="expected") as caught:
        MNIST(root=tmp_path)
    assert str(path) in str(caught.value)


def test_nothing_is_allocated_by_the_files_word(tmp_path, small):
    bomb = gzip.compress(bytes(200_000_000), 1)  # 900 KB that unpack to 200 MB
    write(tmp_path, small[2], True)
    path = tmp_path / f"{mnist.MNIST_TRAIN[0].name}.gz"
    for content in (bomb, gzip.compress(huge_header(small[2][0]) * 20), bytes(10_000_000)):
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(ValueError, match="expected"):
            MNIST(root=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000
    # and one small enough to be opened
    path.write_bytes(gzip.compress(bytes(20_000_000), 9))
    tracemalloc.start()
    with pytest.raises(ValueError, match="found more"):
        MNIST(root=tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_fashion_hash_of_the_gzip_file_and_counts(tmp_path, monkeypatch, small):
    _, labels, contents = small
    packed = [gzip.compress(c) for c in contents]
    known = tuple(
        dataclasses.replace(k, sha256="", gz_sha256=hashlib.sha256(p).hexdigest())
        for k, p in zip(mnist.MNIST_TRAIN, packed)
    )
    monkeypatch.setattr(mnist, "FASHION_TRAIN", known)
    for k, p in zip(known, packed):
        (tmp_path / f"{k.name}.gz").write_bytes(p)
    assert len(FashionMNIST(root=tmp_path)) == N
    path = tmp_path / f"{known[0].name}.gz"
    path.write_bytes(gzip.compress(flipped(contents[0])))
    with pytest.raises(ValueError, match="SHA-256"):
        FashionMNIST(root=tmp_path)
    path.unlink()
    # unpacked: no hash is known, but a class too often is seen
    (tmp_path / known[0].name).write_bytes(contents[0])
    labels[0] = (labels[0] + 1) % 10
    (tmp_path / known[1].name).write_bytes(idx_bytes(labels))
    with pytest.raises(ValueError, match="each of the 10 classes"):
        FashionMNIST(root=tmp_path)


# ---------------------------------------------------------------- CIFAR-10


@pytest.fixture
def small_cifar(monkeypatch):
    """Small published files: images, labels, and the contents by name."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (6 * N, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, 6 * N, dtype=np.uint8)
    records = np.concatenate([labels[:, None], images.reshape(6 * N, -1)], axis=1)
    contents = [part.tobytes() for part in np.split(records, 6)]
    known = [
        KnownFile(k.name, len(c), sha256=hashlib.sha256(c).hexdigest())
        for k, c in zip(cifar.TRAIN + cifar.TEST, contents)
    ]
    monkeypatch.setattr(cifar, "TRAIN", tuple(known[:5]))
    monkeypatch.setattr(cifar, "TEST", tuple(known[5:]))
    return images, labels, {k.name: c for k, c in zip(known, contents)}


def make_archive(monkeypatch, contents):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in reversed(contents.items()):  # the order must not matter
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = packed.getvalue()
    monkeypatch.setattr(cifar, "ARCHIVE_SIZE", len(archive))
    monkeypatch.setattr(cifar, "ARCHIVE_SHA256", hashlib.sha256(archive).hexdigest())
    return archive


@pytest.mark.parametrize("place", ["", "cifar10", "cifar-10-batches-bin"])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar_is_found(tmp_path, monkeypatch, small_cifar, place, packed):
    images, labels, contents = small_cifar
    (tmp_path / place).mkdir(exist_ok=True)
    if packed:
        folder = tmp_path / place.replace("cifar-10-batches-bin", "")
        (folder / cifar.ARCHIVE).write_bytes(make_archive(monkeypatch, contents))
    else:
        for name, content in contents.items():
            (tmp_path / place / name).write_bytes(content)
    monkeypatch.setenv(fetch.ENV_DIR, str(tmp_path))
    train, test = CIFAR10(download=False), CIFAR10(train=False, download=False)
    np.testing.assert_array_equal(train.images, images[: 5 * N])
    np.testing.assert_array_equal(test.images, images[5 * N :])
    np.testing.assert_array_equal(np.r_[train.labels, test.labels], labels)
    assert train.labels.dtype == np.int64 and len(train.classes) == 10
    assert str(tmp_path) in train.source


@pytest.mark.parametrize(
    "change, message",
    [
        (flipped, "expected SHA-256"),
        (lambda c: c[:-1], "expected .* bytes.*found"),
        (lambda c: c + b"x", "expected .* bytes.*found"),
        (lambda c: b"", "expected .* bytes.*found 0"),
    ],
)
def test_damaged_cifar(tmp_path, monkeypatch, small_cifar, change, message):
    contents = small_cifar[2]
    archive = tmp_path / cifar.ARCHIVE
    archive.write_bytes(change(make_archive(monkeypatch, contents)))
    with pytest.raises(ValueError, match=message) as caught:
        CIFAR10(root=tmp_path)
    assert str(archive) in str(caught.value)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(change(content) if name == "data_batch_3.bin" else content)
    with pytest.raises(ValueError, match=message) as caught:
        CIFAR10(root=tmp_path)
    assert "data_batch_3.bin" in str(caught.value)


def test_cifar_archive_with_a_file_missing_or_a_label_too_large(tmp_path, monkeypatch, small_cifar):
    contents = dict(small_cifar[2])
    wrong = bytes([10]) + contents["data_batch_2.bin"][1:]
    archive = make_archive(monkeypatch, {**contents, "data_batch_2.bin": wrong})
    (tmp_path / cifar.ARCHIVE).write_bytes(archive)
    with pytest.raises(ValueError, match="a label is 10"):
        CIFAR10(root=tmp_path)
    del contents["data_batch_4.bin"]
    (tmp_path / cifar.ARCHIVE).write_bytes(make_archive(monkeypatch, contents))
    with pytest.raises(ValueError, match=r"no cifar-10-batches-bin/data_batch_4\.bin"):
        CIFAR10(root=tmp_path)
