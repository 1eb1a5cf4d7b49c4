"""Data sets, samplers and the DataLoader, as in PyTorch, and small real data sets."""

from .augment import Augmented, RandomAffine
from .collate import default_collate, default_convert
from .dataset import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from .fetch import DataWarning, FetchError
from .images import FASHION, ImageDataset, digits, fashion_mnist, mnist
from .loader import DataLoader, WorkerInfo, batch_generator, get_worker_info
from .pictures import read_digit
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .sequences import SequenceDataset, japanese_vowels
from .tables import RatingsDataset, TableDataset, breast_cancer, diamonds, movielens
from .text import TextDataset, shakespeare

__all__ = [
    "FASHION",
    "Augmented",
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "DataWarning",
    "Dataset",
    "FetchError",
    "ImageDataset",
    "IterableDataset",
    "RandomAffine",
    "RandomSampler",
    "RatingsDataset",
    "Sampler",
    "SequenceDataset",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TableDataset",
    "TensorDataset",
    "TextDataset",
    "WeightedRandomSampler",
    "WorkerInfo",
    "batch_generator",
    "breast_cancer",
    "default_collate",
    "default_convert",
    "diamonds",
    "digits",
    "fashion_mnist",
    "get_worker_info",
    "japanese_vowels",
    "mnist",
    "movielens",
    "random_split",
    "read_digit",
    "shakespeare",
]
