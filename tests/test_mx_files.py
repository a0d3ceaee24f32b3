"""Files that MXNet 1.9.1 wrote are read, what is written has its bytes, and damage is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cyconv.mx as mx
from cyconv.mx import nd
from cyconv.mx.gluon import nn

RECORDED = Path(__file__).parent / "recorded"


def small_net(prefix: str | None = None) -> nn.Sequential:
    net = nn.Sequential(prefix=prefix)
    with net.name_scope():
        net.add(nn.Conv2D(2, 3, activation="relu"), nn.BatchNorm(), nn.Dense(3))
    return net


def test_a_list_that_mxnet_wrote() -> None:
    first, second = nd.load(RECORDED / "mx_list.params")
    np.testing.assert_array_equal(first.asnumpy(), np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(second.asnumpy(), [1, 2])
    assert second.dtype == np.int64


def test_every_dtype_that_mxnet_wrote() -> None:
    loaded = nd.load(RECORDED / "mx_dict.params")
    wider = {"float16": np.float32, "int8": np.int32}
    for name, array in loaded.items():
        assert array.dtype == wider.get(name, getattr(np, name))
        np.testing.assert_array_equal(array.asnumpy(), [[1, 2, 3]])
    assert set(loaded) == {"float32", "float64", "float16", "uint8", "int32", "int8", "int64"}


def test_what_is_written_is_what_mxnet_writes(tmp_path: Path) -> None:
    for name in ("mx_list.params", "mx_net.params", "mx_net_names.params"):
        nd.save(tmp_path / name, nd.load(RECORDED / name))
        assert (tmp_path / name).read_bytes() == (RECORDED / name).read_bytes()


def test_one_array_is_a_list_of_one(tmp_path: Path) -> None:
    nd.save(tmp_path / "a", nd.array([[1, 2]]))
    (loaded,) = nd.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded.asnumpy(), [[1, 2]])


@pytest.mark.parametrize("name", ["mx_net.params", "mx_net_names.params"])
def test_a_net_of_mxnets_computes_the_same(name: str) -> None:
    recorded = np.load(RECORDED / "mx_net.npz")
    net = small_net("net_")
    net.load_parameters(RECORDED / name)
    y = net(nd.array(recorded["x"]))
    np.testing.assert_allclose(y.asnumpy(), recorded["y"], rtol=1e-5, atol=1e-6)


def test_parameters_come_back(tmp_path: Path) -> None:
    x = nd.arange(50).reshape((1, 2, 5, 5))
    net, other = small_net(), small_net()
    net.initialize(mx.init.Xavier())
    y = net(x)
    net.save_parameters(tmp_path / "net")
    other.initialize()
    other(x)
    other.load_parameters(tmp_path / "net")
    np.testing.assert_array_equal(other(x).asnumpy(), y.asnumpy())
    other.save_params(tmp_path / "old name")
    assert (tmp_path / "old name").read_bytes() == (tmp_path / "net").read_bytes()


def test_a_net_of_one_layer_comes_back(tmp_path: Path) -> None:
    dense, other = nn.Dense(2, in_units=3), nn.Dense(2, in_units=3)
    dense.initialize()
    dense.save_parameters(tmp_path / "by place")
    full = {dense.weight.name: dense.weight.data(), dense.bias.name: dense.bias.data()}
    nd.save(tmp_path / "by name", full)
    for name, net in (("by place", other), ("by place", dense), ("by name", dense)):
        net.initialize(mx.init.Constant(7), force_reinit=True)
        net.load_parameters(tmp_path / name)
        np.testing.assert_array_equal(
            net.weight.data().asnumpy(), full[dense.weight.name].asnumpy()
        )


def test_names_without_the_prefix_of_the_net(tmp_path: Path) -> None:
    net = small_net()
    net.initialize(mx.init.Xavier())
    net(nd.arange(50).reshape((1, 2, 5, 5)))
    params = net.collect_params()
    bare = {name.replace(net.prefix, ""): p.data() for name, p in params.items()}
    nd.save(tmp_path / "bare", {name: array * 0 + 3 for name, array in bare.items()})
    net.load_parameters(tmp_path / "bare")
    assert all((p.data().asnumpy() == 3).all() for p in params.values())


def test_names_and_shapes_that_do_not_fit(tmp_path: Path) -> None:
    dense = nn.Dense(2, in_units=3)
    dense.initialize()
    nd.save(tmp_path / "less", {"weight.": nd.ones((2, 3))})
    with pytest.raises(ValueError, match=r"less has \['weight.'\], not \['bias', 'weight'\]"):
        dense.load_parameters(tmp_path / "less")
    nd.save(tmp_path / "other", {dense.weight.name: nd.ones((2, 4)), dense.bias.name: nd.ones(2)})
    with pytest.raises(ValueError, match=r"_weight has shape \(2, 3\), the data \(2, 4\)"):
        dense.load_parameters(tmp_path / "other")


@pytest.mark.parametrize("name", ["mx_list.params", "mx_dict.params", "mx_net.params"])
def test_a_file_that_was_cut_off(name: str, tmp_path: Path) -> None:
    whole = (RECORDED / name).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut is damaged or no file of NDArrays"):
            nd.load(tmp_path / "cut")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no arrays in this file, only words")
    with pytest.raises(ValueError, match=r"text is damaged or no file .*: it begins with 0x"):
        nd.load(tmp_path / "text")
    whole = bytearray((RECORDED / "mx_list.params").read_bytes())
    for place, what in (
        (24, "not a dense one in the format V2"),
        (24 + 4, "not a dense one in the format V2"),
        (24 + 8, "smaller than requested"),
        (24 + 36, "dtype 99"),
    ):
        damaged = bytes(whole[:place]) + b"\x63" + bytes(whole[place + 1 :])
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ValueError, match=what):
            nd.load(tmp_path / "damaged")


def test_a_damaged_shape_or_name(tmp_path: Path) -> None:
    begin = np.array([0x112, 0, 1], "<u8").tobytes()
    kind, empty = np.array([1, 0, 0], "<i4").tobytes(), np.array([0, 2**62, 2**62], "<i8").tobytes()
    vast = np.array([2**40, 2**40], "<i8").tobytes() + kind
    word = np.array([0xF993FAC9, 0], "<u4").tobytes()
    one = word + np.array([1], "<u4").tobytes() + np.array([0], "<i8").tobytes() + kind
    for content, what in (
        (begin + word + np.array([3], "<u4").tobytes() + empty + kind, "too big"),
        (begin + word + np.array([2], "<u4").tobytes() + vast, "smaller|size"),
        (begin + one + np.array([1, 2], "<u8").tobytes() + b"\xff\xfe", "can't decode byte"),
        (np.array([0x112, 0, 2**60], "<u8").tobytes(), "smaller|buffer"),
    ):
        (tmp_path / "damaged").write_bytes(content)
        with pytest.raises(ValueError, match=f"load: .*damaged.*{what}"):
            nd.load(tmp_path / "damaged")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"must be NDArrays, got \['ndarray'\]"):
        nd.save(tmp_path / "a", [np.ones(3)])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        nd.save(tmp_path / "none" / "a", [nd.ones(3)])


def test_images_are_resized_as_mxnet_does() -> None:
    recorded = np.load(RECORDED / "mx_image.npz")
    image = nd.array(recorded["image"], dtype="uint8")
    for name in ("5x9", "42x56"):
        w, h = map(int, name.split("x"))
        resized = mx.image.imresize(image, w, h).asnumpy()
        np.testing.assert_array_equal(resized, recorded[name])
    with pytest.raises(TypeError, match="uint8 image"):
        mx.image.imresize(nd.ones((2, 2, 3)), 4, 4)
