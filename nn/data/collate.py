"""Samples into batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import autograd_core as ag


def default_collate(batch: Sequence[Any]) -> Any:
    """Stack samples into one batch, keeping their structure.

    Tensors, arrays and NumPy scalars are stacked along a new first dimension, floats become a float64 tensor, whole
    numbers an int64 one and booleans a bool one; strings and bytes stay a list. Mappings, named tuples, tuples and
    lists (both become lists) are collated member by member. Raises `TypeError` for anything else and `RuntimeError`
    for samples of unequal length.
    """
    first = batch[0]
    if isinstance(first, ag.Tensor):
        return ag.stack(list(batch))
    if isinstance(first, np.ndarray | np.generic):
        return _numpy_batch(batch)
    if isinstance(first, bool | int | float):
        kind = np.bool_ if isinstance(first, bool) else np.int64 if isinstance(first, int) else np.float64
        return ag.from_numpy(np.array(batch, dtype=kind))
    if isinstance(first, str | bytes):
        return list(batch)
    if isinstance(first, Mapping):
        members = {key: default_collate([sample[key] for sample in batch]) for key in first}
        return members if type(first) is dict else type(first)(members)  # type: ignore[call-arg]
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("default_collate: got samples of unequal length, needs equally many members in each")
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(
        f"default_collate: got samples of type {type(first).__name__}, needs tensors, arrays, numbers, strings, "
        "mappings or sequences; give the DataLoader a collate_fn for other types"
    )


def default_convert(sample: Any) -> Any:
    """Turn the arrays inside one sample into tensors: what a `DataLoader` without batching does."""
    if isinstance(sample, np.ndarray | np.generic):
        array = np.asarray(sample)
        return ag.from_numpy(array) if array.dtype.kind in "biuf" else sample
    if isinstance(sample, str | bytes | ag.Tensor):
        return sample
    if isinstance(sample, Mapping):
        members = {key: default_convert(value) for key, value in sample.items()}
        return members if type(sample) is dict else type(sample)(members)  # type: ignore[call-arg]
    if isinstance(sample, Sequence):
        columns = [default_convert(value) for value in sample]
        return type(sample)(*columns) if hasattr(sample, "_fields") else columns
    return sample


def _numpy_batch(batch: Sequence[Any]) -> Any:
    shapes = {np.shape(one) for one in batch}
    if len(shapes) > 1:
        listed = ", ".join(str(list(shape)) for shape in sorted(shapes))
        raise ValueError(f"default_collate: got arrays of shapes {listed}, needs one shape; "
                         "give the DataLoader a collate_fn that pads")  # fmt: skip
    stacked = np.stack(batch)
    if stacked.dtype.kind not in "biuf":
        raise TypeError(f"default_collate: got arrays of {stacked.dtype}, needs numbers")
    return ag.from_numpy(stacked)
