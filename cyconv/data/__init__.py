"""Data sets and mini-batches: where images come from and the layout in which they reach a net."""

from .augment import HorizontalFlip, RandomCrop
from .cifar import CIFAR10
from .dataset import ArrayDataset, Dataset, Subset, random_split
from .loader import DataLoader
from .mnist import MNIST, FashionMNIST

__all__ = [
    "CIFAR10",
    "MNIST",
    "ArrayDataset",
    "DataLoader",
    "Dataset",
    "FashionMNIST",
    "HorizontalFlip",
    "RandomCrop",
    "Subset",
    "random_split",
]
