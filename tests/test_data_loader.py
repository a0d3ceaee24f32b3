"""DataLoader: order, layout, transforms, resuming, and the thread that works ahead."""

import gc
import multiprocessing
import os
import threading
import time
import traceback

import numpy as np
import pytest

from cyconv.data import ArrayDataset, DataLoader, HorizontalFlip, RandomCrop, Subset
from cyconv.data.prefetch import ahead
from cyconv.tensor import Tensor

RNG = np.random.default_rng(0)
N = 103
PIXELS = RNG.integers(0, 256, (N, 3, 8, 6), dtype=np.uint8)
LABELS = np.arange(N)  # each sample is known by its label
DATA = ArrayDataset(PIXELS, LABELS)
AUGMENT = [RandomCrop(2), HorizontalFlip()]


class Slow:
    """The same samples, one by one, as a user's own class gives them."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return DATA[i]


def collect(batches):
    return [(images.numpy().copy(), labels) for images, labels in batches]


def same(a, b):
    assert len(a) == len(b)
    for (x, s), (y, t) in zip(a, b):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(s, t)


def order(batches):
    return np.concatenate([labels for _, labels in batches])


def prefetching():
    return [t for t in threading.enumerate() if t.name == "cyconv-prefetch"]


# ---------------------------------------------------------------- what is delivered


@pytest.mark.parametrize("batch_size", [1, 7, 32, 64, 200])
@pytest.mark.parametrize("dataset", [DATA, Slow(), Subset(DATA, range(N))])
def test_batches_equal_the_samples(dataset, batch_size):
    loader = DataLoader(dataset, batch_size)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-N // batch_size)
    assert order(batches).tolist() == list(range(N))
    for images, labels in batches:
        assert isinstance(images, Tensor) and isinstance(labels, np.ndarray)
        assert images.dtype == np.float32 and labels.dtype == np.int64
        assert images.shape == (len(labels), 3, 8, 6)
        assert np.moveaxis(images.data, 0, -1).flags.c_contiguous  # batch-last memory
        np.testing.assert_array_equal(images.data, np.stack([DATA[i][0] for i in labels]))


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("dtype", ["float32", np.float64, np.dtype("float32")])
def test_dtype(kind, dtype):
    values = PIXELS if kind == "uint8" else RNG.normal(size=(5, 2)).astype(kind)
    images, _ = next(iter(DataLoader(ArrayDataset(values, LABELS[: len(values)]), 5, dtype=dtype)))
    assert images.dtype == dtype
    want = values[:5] / np.asarray(255, dtype) if kind == "uint8" else values.astype(dtype)
    np.testing.assert_array_equal(images.data, want)


def test_any_memory_order_of_the_images():
    for images in (np.asfortranarray(PIXELS), PIXELS[:, :, ::-1, ::-1], PIXELS[:, :, :, :1]):
        batch, _ = next(iter(DataLoader(ArrayDataset(images, LABELS), 40)))
        np.testing.assert_array_equal(batch.data, images[:40] / np.float32(255))


def test_drop_last_and_empty():
    assert [len(y) for _, y in DataLoader(DATA, 50, drop_last=True)] == [50, 50]
    assert [len(y) for _, y in DataLoader(DATA, 50)] == [50, 50, 3]
    assert len(DataLoader(DATA, 200, drop_last=True)) == 0
    assert list(DataLoader(Subset(DATA, []), 8)) == []
    assert list(DataLoader(DATA, 200, drop_last=True, transform=lambda x: x)) == []


def test_targets_that_are_floats_stay_so():
    targets = RNG.normal(size=(N, 2)).astype(np.float32)
    _, labels = next(iter(DataLoader(ArrayDataset(PIXELS, targets), 4)))
    np.testing.assert_array_equal(labels, targets[:4])
    assert labels.dtype == np.float32


# ---------------------------------------------------------------- order


def test_order_depends_on_seed_and_epoch_only():
    def of(seed, epoch, batch_size=10, **options):
        loader = DataLoader(DATA, batch_size, True, seed=seed, **options)
        loader.set_epoch(epoch)
        return order(loader).tolist()

    first = of(1, 0)
    assert sorted(first) == list(range(N)) and first != list(range(N))
    np.random.seed(5)
    assert first == of(1, 0) == of(1, 0, 64) == of(1, 0, transform=lambda x: x, augment=AUGMENT)
    others = [of(1, 1), of(1, 2), of(2, 0), of(2, 1)]
    assert all(first != other for other in others)
    assert len({tuple(other) for other in others}) == 4


def test_each_loop_is_an_epoch():
    loader = DataLoader(DATA, 10, True, seed=1)
    loops = [order(loader).tolist() for _ in range(3)]
    assert loops[0] != loops[1] != loops[2] and loader.epoch == 3
    loader.set_epoch(1)
    assert order(loader).tolist() == loops[1]
    # the number counts when the loop begins, not when its first batch is asked for
    loader.set_epoch(0)
    a, b = iter(loader), iter(loader)
    assert order(b).tolist() == loops[1] and order(a).tolist() == loops[0]


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("start", [0, 1, 5, 10, 11])
def test_resume_in_the_middle_of_an_epoch(start, prefetch):
    def make():
        loader = DataLoader(DATA, 10, True, seed=3, augment=AUGMENT, prefetch=prefetch)
        loader.set_epoch(2)
        return loader

    whole = collect(make())
    loader = make()
    same(collect(loader.iterate(start)), whole[start:])
    same(collect(loader.iterate(start_batch=start)), whole[start:])  # the epoch stays
    for bad in (-1, 12):
        with pytest.raises(ValueError, match="start_batch"):
            loader.iterate(bad)


# ---------------------------------------------------------------- changes


def test_augmentations_differ_by_seed_epoch_and_batch():
    same_image = ArrayDataset(np.repeat(PIXELS[:1], 40, axis=0), np.zeros(40, int))

    def of(seed, epoch):
        loader = DataLoader(same_image, 20, seed=seed, augment=AUGMENT)
        loader.set_epoch(epoch)
        return [images.tobytes() for images, _ in collect(loader)]

    batches = [*of(0, 0), *of(0, 1), *of(1, 0)]
    assert len(set(batches)) == 6 and of(0, 1) == batches[2:4]


def test_augment_sees_the_pixels_and_one_function_will_do():
    seen = []

    def look(images, rng):
        seen.append((images.dtype, images.shape, rng.random()))
        return images

    list(DataLoader(DATA, 100, augment=look))
    assert [s[:2] for s in seen] == [(np.uint8, (100, 3, 8, 6)), (np.uint8, (3, 3, 8, 6))]


def test_transform_of_each_image():
    def crop(image):
        assert image.dtype == np.float32 and image.shape == (3, 8, 6)
        return image[:, 1:, :4] * 2

    batches = list(DataLoader(DATA, 50, transform=crop))
    want = PIXELS[:, :, 1:, :4] / np.float32(255) * 2
    np.testing.assert_array_equal(batches[1][0].data, want[50:100])
    assert np.moveaxis(batches[1][0].data, 0, -1).flags.c_contiguous


def test_batch_transform():
    def mix(images, labels):
        assert images.shape == (len(labels), 3, 8, 6) and images.dtype == np.float32
        turned = np.ascontiguousarray(images[::-1], np.float64)  # wrong memory order and dtype
        return turned + 1, np.stack([labels, labels[::-1]], axis=1) / 2

    images, labels = next(iter(DataLoader(DATA, 10, batch_transform=mix)))
    np.testing.assert_array_equal(
        images.data, (DATA.images[9::-1] / np.float32(255) + np.float64(1)).astype(np.float32)
    )
    assert np.moveaxis(images.data, 0, -1).flags.c_contiguous and images.dtype == np.float32
    assert labels.shape == (10, 2) and labels.dtype == np.float64
    narrow = DataLoader(DATA, 10, batch_transform=lambda x, y: (x, y.astype(np.int32)))
    assert next(iter(narrow))[1].dtype == np.int64


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize(
    "options, message",
    [
        ({"transform": lambda x: x[:, :, : int(x.sum()) % 2 + 2]}, "transform gave images of diff"),
        ({"transform": lambda x: "no"}, "transform gave an image of dtype"),
        ({"augment": lambda x, rng: x[1:]}, "augment made"),
        ({"batch_transform": lambda x, y: x}, "must return"),
        ({"batch_transform": lambda x, y: (x, y[1:])}, "as many labels"),
        ({"batch_transform": lambda x, y: (x > 0, y)}, "float images"),
    ],
)
def test_changes_that_go_wrong(options, message, prefetch):
    with pytest.raises((TypeError, ValueError), match=f"DataLoader: .*{message}"):
        list(DataLoader(DATA, 50, prefetch=prefetch, **options))
    assert not prefetching()


@pytest.mark.parametrize(
    "options, error",
    [
        ({"batch_size": 0}, ValueError),
        ({"batch_size": 2.5}, TypeError),
        ({"batch_size": True}, TypeError),
        ({"seed": -1}, ValueError),
        ({"seed": None}, TypeError),
        ({"dtype": "float16"}, TypeError),
        ({"dtype": "nonsense"}, TypeError),
        ({"transform": 3}, TypeError),
        ({"augment": [3]}, TypeError),
        ({"augment": 3}, TypeError),
        ({"batch_transform": "x"}, TypeError),
        ({"dataset": 3}, TypeError),
    ],
)
def test_bad_arguments(options, error):
    with pytest.raises(error, match="DataLoader: "):
        DataLoader(**{"dataset": DATA, **options})


def test_bad_epoch():
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        DataLoader(DATA).set_epoch(-1)


# ---------------------------------------------------------------- working ahead


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augment": AUGMENT},
        {"transform": lambda x: x[:, ::-1]},
        {"batch_transform": lambda x, y: (-x, y)},
        {"dataset": Slow()},
    ],
)
def test_same_bits_with_and_without_prefetching(options):
    dataset = options.pop("dataset", DATA)
    threads = []

    def note(images, rng):
        threads.append(threading.current_thread())
        return images

    augment = [*options.pop("augment", []), note]
    same(
        *[
            collect(DataLoader(dataset, 10, True, prefetch=p, augment=augment, **options))
            for p in (True, False)
        ]
    )
    half = len(threads) // 2
    assert all(t.name == "cyconv-prefetch" for t in threads[:half])
    assert all(t is threading.current_thread() for t in threads[half:])
    assert not prefetching()


def test_no_thread_for_plain_arrays_nor_before_the_first_batch():
    batches = iter(DataLoader(Subset(DATA, range(50)), 10))
    next(batches)
    assert not prefetching()
    batches = iter(DataLoader(Slow(), 10))
    assert not prefetching()
    next(batches)
    assert len(prefetching()) == 1
    batches.close()
    assert not prefetching()


def test_leaving_early_leaves_no_thread():
    for _ in DataLoader(Slow(), 10):
        break
    gc.collect()
    assert not prefetching()
    with pytest.raises(KeyError):
        for _ in DataLoader(Slow(), 10):
            raise KeyError
    gc.collect()
    assert not prefetching()


def test_an_error_in_the_thread_comes_at_its_place_with_its_traceback():
    def fail_at_60(image):
        if np.array_equal(image, DATA[60][0]):
            raise RuntimeError("planted")
        return image

    got = []
    with pytest.raises(RuntimeError, match="planted") as caught:
        for _, labels in DataLoader(DATA, 10, transform=fail_at_60):
            got.append(labels)
    assert len(got) == 6
    assert "fail_at_60" in "".join(traceback.format_tb(caught.tb))
    assert not prefetching()


def counting(made):
    for i in range(100):
        made.append(i)
        yield i


def wait_until(happened):
    deadline = time.monotonic() + 10
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)


def test_works_ahead_by_a_bounded_number():
    made = []
    items = ahead(counting(made), depth=3)
    assert next(items) == 0
    wait_until(lambda: len(made) >= 5)
    assert len(made) == 5  # one taken, three waiting, one in the maker's hand
    assert list(items) == list(range(1, 100))


def test_closing_frees_a_thread_that_waits_for_room():
    made = []
    items = ahead(counting(made))
    next(items)
    wait_until(lambda: len(made) >= 3)
    closer = threading.Thread(target=items.close, daemon=True)
    closer.start()
    closer.join(10)
    assert not closer.is_alive() and len(made) == 3


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 keeps the error state by thread")
def test_the_callers_error_state_holds_in_the_thread():
    def divide(image):
        return image / np.zeros_like(image)

    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        list(DataLoader(DATA, 10, transform=divide))


def test_stop_iteration_in_a_transform_is_an_error():
    def stop(image):
        raise StopIteration

    for prefetch in (False, True):
        with pytest.raises(RuntimeError):
            list(DataLoader(DATA, 10, transform=stop, prefetch=prefetch))


def _iterate_on(batches, connection):
    try:
        next(batches)
        connection.send("no error")
    except RuntimeError as error:
        connection.send(str(error))
    connection.send(len(list(DataLoader(Slow(), 10))))  # a new loop works


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork with threads: that is the test
def test_a_forked_child_does_not_hang():
    batches = iter(DataLoader(Slow(), 10))
    next(batches)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_iterate_on, args=(batches, theirs))
    child.start()
    assert ours.poll(20)
    assert "forked" in ours.recv() and ours.recv() == 11
    child.join(20)
    assert child.exitcode == 0
    assert len(list(batches)) == 10
