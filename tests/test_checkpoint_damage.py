"""Damaged and hostile files: one clear error, no code run, no memory taken."""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors
from test_checkpoint import same, small

import cyconv as cc
from cyconv import checkpoint, nn


def refused(path: Path, data: bytes) -> str:
    """The one-sentence error of loading these bytes."""
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^load: ") as caught:
        cc.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    cc.save(tmp_path / "net", small(), {"note": "x"})
    data = (tmp_path / "net").read_bytes()
    for end in range(len(data)):
        refused(tmp_path / "cut", data[:end])
    for more in (b"\0", b"more"):
        refused(tmp_path / "cut", data + more)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    net, metadata = small(), {"note": "x"}
    cc.save(tmp_path / "net", net, metadata)
    data = bytearray((tmp_path / "net").read_bytes())
    path = tmp_path / "changed"
    unnoticed = []
    for at in range(len(data)):
        bit = 1 if at % 2 else 0x80
        data[at] ^= bit
        path.write_bytes(data)
        try:
            found = cc.load(path)
            # what matters did not change: only the checksum's own name, or padding
            assert same(found, net)
            assert checkpoint.load_metadata(path) == metadata
            unnoticed.append(at)
        except ValueError as error:
            assert str(error).startswith(("load: ", "load_metadata: "))
        data[at] ^= bit
    assert len(unnoticed) < 16


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        b"\0" * 1000,
        b"\xff" * 1000,
        b"just some text, longer than eight bytes",
        b"PK\x03\x04" + b"\0" * 100,
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (10**7).to_bytes(8, "little") + b"[" * 10**7,
        (10**6).to_bytes(8, "little") + b'{"a":' * (10**6 // 5),
        (2**63).to_bytes(8, "little") + b"{}",
    ],
    ids=range(13),
)
def test_files_that_are_not_ours(data: bytes, tmp_path: Path) -> None:
    refused(tmp_path / "net", data)
    if data[8:] != b"{}" or data[0] != 2:  # an empty safetensors file is one
        with pytest.raises(ValueError, match=r"^load_arrays: "):
            checkpoint.load_arrays(tmp_path / "net")


class _Exploding:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "exploded"
    refused(tmp_path / "net", pickle.dumps(_Exploding(marker)))
    assert not marker.exists()


def crafted(config: Any, arrays: dict[str, np.ndarray] | None = None) -> bytes:
    """A well-formed file with this config, or with this text in place of our JSON."""
    text = config if isinstance(config, str) else json.dumps({"config": config, "metadata": {}})
    return safetensors.save(arrays or {}, {"cyconv": text})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "system", "command": "touch exploded"}, "no layer of cyconv.nn"),
        ({"type": "__import__", "name": "os"}, "no layer of cyconv.nn"),
        ({"type": "Module"}, "no layer of cyconv.nn"),
        ({"type": "init.skipped"}, "no layer of cyconv.nn"),
        ({"type": "Linear", "in_features": 1, "out_features": 1}, "missing: weight, bias"),
        ({"type": "Conv2d"}, "missing a required argument|missing 3 required"),
        ("", "damaged or no safetensors file"),
        ("null", "unreadable metadata"),
        ("5", "unreadable metadata"),
        ("[]", "unreadable metadata"),
        ('{"metadata": 5, "config": {"type": "ReLU"}}', "unreadable metadata"),
        ('{"config": 5}', "must be a dict"),
        ('{"config": {"type": "ReLU"', "damaged or no safetensors file"),
        ('{"config": ' + "[" * 100_000, "damaged or no safetensors file"),
        ('{"config": ' + "9" * 5000 + "}", "damaged|must be a dict"),
        ('{"config": {"type": "Dropout", "p": NaN}}', "p must be finite"),
        ('{"config": {"type": "Dropout", "p": 1e999}}', "p must be finite"),
        ("{}", "holds no cyconv net"),
    ],
)
def test_metadata_from_elsewhere(config: Any, message: str, tmp_path: Path) -> None:
    assert re.search(message, refused(tmp_path / "net", crafted(config)))


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    config = nn.Linear(2, 1).config()
    for arrays, message in [
        ({"weight": np.ones((1, 2))}, "missing: bias"),
        ({"weight": np.ones((2, 2)), "bias": np.ones(1)}, "another shape: weight"),
        ({"weight": np.ones((1, 2)), "bias": np.ones(1), "x": np.ones(1)}, "unexpected: x"),
    ]:
        assert message in refused(tmp_path / "net", crafted(config, arrays))
    path = tmp_path / "half"
    half = {"weight": np.ones((1, 2), np.float16), "bias": np.ones(1, np.float32)}
    path.write_bytes(crafted(config, half))
    assert cc.load(path).weight.dtype == "float32"  # type: ignore[attr-defined]


def test_a_huge_file_of_something_else_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    for start in (b"", b"some other kind of file"):
        with open(path, "wb") as file:
            file.write(start)
            file.truncate(10**12)  # no disk space is taken
        with pytest.raises(ValueError, match="damaged or no safetensors file"):
            cc.load(path)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    before = resident_bytes()
    wide = {"type": "Linear", "in_features": 30_000, "out_features": 30_000}
    norm = {"type": "BatchNorm1d", "num_features": 500_000_000}
    for config in (wide, norm, {"type": "Sequential", "layers": [wide, norm] * 2}):
        message = refused(tmp_path / "net", crafted(config))
        assert "missing: " in message or "memory" in message
    assert resident_bytes() - before < 50e6


ARGUMENTS = (
    *("layers", "body", "p", "in_features", "out_features", "bias", "kernel_size", "stride"),
    *("num_features", "in_channels", "out_channels", "normalized_shape", "reduction", "axis"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(nn.__all__),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.fixed_dictionaries(
            {"type": st.sampled_from(nn.__all__)},
            optional=dict.fromkeys(ARGUMENTS, inner),
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(config=JSON)
def test_any_metadata_gives_a_net_or_one_clear_error(
    config: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(crafted(config))
    try:
        assert type(cc.load(path)).__module__.startswith("cyconv.nn.")
    except ValueError as error:
        assert str(error).startswith("load: ")


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), header=st.booleans())
def test_any_bytes_give_one_clear_error(
    data: bytes, header: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    refused(path, len(data).to_bytes(8, "little") + data if header else data)


def test_another_dtype_of_the_same_bytes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save_arrays(path, {"w": np.arange(6, dtype=np.float32)})
    data = path.read_bytes()
    assert data.count(b'"F32"') == 1
    path.write_bytes(data.replace(b'"F32"', b'"I32"'))
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.load_arrays(path)
