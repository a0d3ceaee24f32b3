"""A training in PyTorch like ``cyconv train --epochs 1``: ``python -m benchmarks.torch_train``.

The notebook's network, Adam with a warm-up and a cosine, batches of 64, the moving loss, the test
images at the end and, if it is told to, the training images, too, and the net in a file. The data
lie in tensors whole, which no loader of PyTorch comes near in speed. Its last line is the test
accuracy. It imports nothing of cyconv.
"""

from __future__ import annotations

import argparse
import gzip
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

BATCH, EVALUATION_BATCH, WARMUP, LEARNING_RATE = 64, 256, 100, 0.003


def lenet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 3), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def read(images: Path, labels: Path, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (N, 1, 28, 28), uint8, and labels (N,) of two IDX files, raw or gzipped."""

    def content(path: Path) -> bytes:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    x = np.frombuffer(content(images), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:limit]
    y = np.frombuffer(content(labels), np.uint8, offset=8)[:limit]
    return torch.from_numpy(x.copy()), torch.from_numpy(y.astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path, nargs=4, help="images, labels; test images, labels")
    parser.add_argument("--out", type=Path, required=True, help="where the net goes")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--limit", type=int, help="train on so many images")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--train-accuracy", action="store_true", help="after the training, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    images, names, test_images, test_names = options.files
    pixels, labels = read(images, names, options.limit)
    test_pixels, test_labels = read(test_images, test_names)
    net = lenet().to(memory_format=layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    steps = -(-len(pixels) // BATCH)
    warmup = min(WARMUP, steps // 10)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x.float().div_(255).contiguous(memory_format=layout)

    moving = None
    for chosen in torch.randperm(len(pixels)).split(BATCH):
        loss = nn.functional.cross_entropy(net(scaled(pixels[chosen])), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        moving = loss.item() if moving is None else 0.99 * moving + 0.01 * loss.item()

    def accuracy(*tensors: torch.Tensor) -> float:
        right = 0
        with torch.inference_mode():
            for x, y in zip(*(tensor.split(EVALUATION_BATCH) for tensor in tensors)):
                right += int((net(scaled(x)).argmax(1) == y).sum())
        return right / len(tensors[0])

    print(f"moving loss {moving:.4f}")
    if options.train_accuracy:
        print(f"train accuracy {accuracy(pixels, labels)}")
    torch.save(net.state_dict(), options.out)
    print(accuracy(test_pixels, test_labels))


if __name__ == "__main__":
    main()
