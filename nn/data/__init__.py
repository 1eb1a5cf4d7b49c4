"""Data sets, samplers and the DataLoader, as in PyTorch, and small real data sets."""

from .collate import default_collate, default_convert
from .dataset import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from .fetch import DataWarning, FetchError
from .images import ImageDataset, digits, mnist
from .loader import DataLoader, WorkerInfo, batch_generator, get_worker_info
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "DataWarning",
    "Dataset",
    "FetchError",
    "ImageDataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerInfo",
    "batch_generator",
    "default_collate",
    "default_convert",
    "digits",
    "get_worker_info",
    "mnist",
    "random_split",
]
