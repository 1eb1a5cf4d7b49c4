"""Data sets, samplers and the DataLoader."""

import collections
import itertools
import threading
import time
import traceback

import numpy as np
import pytest

import autograd_core as ag
from nn.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    ImageDataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    batch_generator,
    default_collate,
    get_worker_info,
    random_split,
)


class Squares(Dataset):
    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        return index, float(index**2)

    def __len__(self):
        return self.count


class Stream(IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))

    def __len__(self):
        return self.count


def seeded(seed=7):
    return ag.Generator().manual_seed(seed)


def numbers(loader):
    """All batches of a loader over single numbers."""
    return [batch.tolist() for batch in loader]


# Data sets ------------------------------------------------------------------------------------------------------------


def test_tensor_dataset_gives_rows_as_tensors():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    dataset = TensorDataset(x, ag.tensor([0, 1, 2, 3]))
    row, label = dataset[2]
    assert isinstance(row, ag.Tensor)
    assert row.tolist() == [6, 7, 8]
    assert label.item() == 2
    assert len(dataset) == 4
    assert dataset[1:3][1].tolist() == [1, 2]


def test_tensor_dataset_refuses_unequal_rows():
    with pytest.raises(ValueError, match="4, 5 rows"):
        TensorDataset(np.zeros(4), np.zeros(5))
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()
    with pytest.raises(TypeError, match="got list"):
        TensorDataset([1, 2])


def test_batch_of_tensor_dataset_equals_its_collated_samples():
    x = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32)
    dataset = TensorDataset(x, np.arange(20))
    whole = dataset.get_batch([3, 19, 0, 3])
    single = default_collate([dataset[i] for i in [3, 19, 0, 3]])
    for fast, slow in zip(whole, single, strict=True):
        assert fast.dtype == slow.dtype
        np.testing.assert_array_equal(fast.numpy(), slow.numpy())


def test_batches_keep_the_gradient_of_a_tensor():
    x = ag.tensor(np.ones((4, 2), dtype=np.float32), requires_grad=True)
    (batch,) = next(iter(DataLoader(TensorDataset(x), batch_size=3)))
    batch.sum().backward()
    assert x.grad.tolist() == [[1, 1], [1, 1], [1, 1], [0, 0]]


def test_overridden_getitem_is_not_bypassed_by_whole_batches():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return (super().__getitem__(index)[0] * 2,)

    dataset = Doubled(np.arange(4))
    assert [b[0].tolist() for b in DataLoader(dataset, batch_size=4)] == [[0, 2, 4, 6]]
    assert [b[0].tolist() for b in DataLoader(Subset(dataset, [3, 1]), batch_size=2)] == [[6, 2]]


def test_getitems_is_used_where_defined():
    class Many(Squares):
        def __getitems__(self, indices):
            return [-i for i in indices]

    assert numbers(DataLoader(Many(4), batch_size=2)) == [[0, -1], [-2, -3]]


def test_concat_and_plus():
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset)
    assert len(both) == 5
    assert [both[i][0] for i in range(5)] == [0, 1, 2, 0, 1]
    assert both[-1] == (1, 1.0)
    assert both[-5] == (0, 0.0)
    for index in (5, -6):
        with pytest.raises(IndexError, match="has 5 samples"):
            both[index]
    assert [i for i, _ in both] == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="at least one"):
        ConcatDataset([])
    with pytest.raises(TypeError, match="IterableDataset"):
        ConcatDataset([Stream(2)])


def test_concat_steps_over_empty_parts():
    both = ConcatDataset([Squares(0), Squares(2), Squares(0), Squares(1)])
    assert [both[i][0] for i in range(len(both))] == [0, 1, 0]


@pytest.mark.filterwarnings("ignore:random_split")
def test_random_split_by_counts_and_by_fractions():
    parts = random_split(Squares(10), [7, 3], generator=seeded())
    again = random_split(Squares(10), [0.7, 0.3], generator=seeded())
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(parts[0].indices + parts[1].indices) == list(range(10))
    assert [part.indices for part in parts] == [part.indices for part in again]
    assert [len(part) for part in random_split(Squares(10), [1 / 3] * 3)] == [4, 3, 3]
    assert [len(part) for part in random_split(Squares(5), [0.1] * 10)[:6]] == [1, 1, 1, 1, 1, 0]


@pytest.mark.filterwarnings("ignore:random_split")
@pytest.mark.parametrize("lengths", [[5, 4], [12, -2], [0.5, 0.4], [2.5, 7.5], [1.5, -0.5]])
def test_random_split_refuses(lengths):
    with pytest.raises(ValueError, match="random_split: got"):
        random_split(Squares(10), lengths)


def test_random_split_warns_of_an_empty_part():
    with pytest.warns(UserWarning, match="part 1"):
        random_split(Squares(1), [0.9, 0.1])


def test_subset_of_a_subset():
    inner = Subset(TensorDataset(np.arange(10) * 10), [9, 7, 5, 3])
    outer = Subset(inner, [3, 0])
    assert [outer[i][0].item() for i in range(2)] == [30, 90]
    assert next(iter(DataLoader(outer, batch_size=2)))[0].tolist() == [30, 90]


def test_image_dataset_normalises():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4), dtype=np.uint8)
    dataset = ImageDataset(images, [0, 1, 2, 3, 4], mean=0.5, std=0.25)
    picture, label = dataset[3]
    assert picture.shape == (1, 3, 4)
    assert picture.dtype == ag.float32
    assert type(label) is int
    expected = (images[3][None] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(picture.numpy(), expected, rtol=1e-6, atol=1e-6)
    pictures, labels = dataset[:]
    assert pictures.shape == (5, 1, 3, 4)
    assert labels.dtype == ag.int64
    fast = next(iter(DataLoader(dataset, batch_size=5)))
    np.testing.assert_array_equal(fast[0].numpy(), pictures.numpy())
    np.testing.assert_array_equal(fast[1].numpy(), labels.numpy())


def test_image_dataset_keeps_channels_and_refuses_other_arrays():
    assert ImageDataset(np.zeros((2, 3, 4, 4), dtype=np.uint8), [0, 1])[0][0].shape == (3, 4, 4)
    with pytest.raises(ValueError, match="needs uint8"):
        ImageDataset(np.zeros((2, 4, 4)), [0, 1])
    with pytest.raises(ValueError, match="labels of shape"):
        ImageDataset(np.zeros((2, 4, 4), dtype=np.uint8), [0])


# Samplers -------------------------------------------------------------------------------------------------------------


def test_random_sampler_is_a_permutation_that_changes_every_pass():
    sampler = RandomSampler(range(50), generator=seeded())
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first == list(RandomSampler(range(50), generator=seeded()))


def test_random_sampler_counts():
    assert len(list(RandomSampler(range(4), num_samples=10))) == 10
    counts = collections.Counter(RandomSampler(range(4), num_samples=8))
    assert counts == dict.fromkeys(range(4), 2)
    draws = list(RandomSampler(range(4), replacement=True, num_samples=200))
    assert set(draws) == {0, 1, 2, 3}
    assert list(RandomSampler([])) == []
    with pytest.raises(ValueError, match="num_samples=0"):
        RandomSampler([1], num_samples=0)


def test_sequential_subset_and_batch_samplers():
    assert list(SequentialSampler("abc")) == [0, 1, 2]
    subset = SubsetRandomSampler([5, 7, 9], generator=seeded())
    assert sorted(subset) == [5, 7, 9]
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert [len(BatchSampler(range(5), 2, drop)) for drop in (False, True)] == [3, 2]
    with pytest.raises(ValueError, match="batch_size=0"):
        BatchSampler(range(5), 0, False)


def test_weighted_sampler_draws_in_proportion():
    weights = [0.0, 1.0, 0.0, 3.0, 0.0]
    counts = collections.Counter(WeightedRandomSampler(weights, 8000, generator=seeded()))
    assert set(counts) == {1, 3}
    assert abs(counts[3] / 8000 - 0.75) < 0.02  # four standard deviations


def test_weighted_sampler_without_replacement():
    weights = [0.0, 1.0, 2.0, 7.0]
    first = collections.Counter()
    generator = seeded()
    for _ in range(2000):
        draws = list(WeightedRandomSampler(weights, 3, replacement=False, generator=generator))
        assert sorted(draws) == [1, 2, 3]
        first[draws[0]] += 1
    assert abs(first[3] / 2000 - 0.7) < 0.045  # four standard deviations
    with pytest.raises(ValueError, match="needs at most 3"):
        WeightedRandomSampler(weights, 4, replacement=False)


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, float("nan")], [[1, 2]], [float("inf")]])
def test_weighted_sampler_refuses(weights):
    with pytest.raises(ValueError, match="weights"):
        WeightedRandomSampler(weights, 1)


# Collating ------------------------------------------------------------------------------------------------------------


def test_collate_types():
    assert default_collate([1, 2]).dtype == ag.int64
    assert default_collate([1.0, 2.0]).dtype == ag.float64
    assert default_collate([True, False]).dtype == ag.bool
    assert default_collate([np.float32(1), np.float32(2)]).dtype == ag.float32
    assert default_collate(["a", "b"]) == ["a", "b"]
    assert default_collate([np.zeros(3), np.ones(3)]).shape == (2, 3)
    assert default_collate([ag.zeros(3), ag.ones(3)]).shape == (2, 3)


def test_collate_structures():
    Point = collections.namedtuple("Point", "x y")
    assert default_collate([{"a": 1, "b": "u"}, {"a": 2, "b": "v"}])["b"] == ["u", "v"]
    point = default_collate([Point(1, 2), Point(3, 4)])
    assert point.y.tolist() == [2, 4]
    nested = default_collate([(1, [2.0, 3.0]), (4, [5.0, 6.0])])
    assert nested[1][1].tolist() == [3.0, 6.0]


def test_collate_refuses():
    with pytest.raises(RuntimeError, match="unequal length"):
        default_collate([[1, 2], [3]])
    with pytest.raises(TypeError, match="collate_fn"):
        default_collate([object()])
    with pytest.raises(TypeError, match="numbers"):
        default_collate([np.array(["a"]), np.array(["b"])])


# The loader -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_and_length(workers):
    loader = DataLoader(TensorDataset(np.arange(10)), batch_size=4, num_workers=workers)
    assert [b[0].tolist() for b in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(loader) == 3
    short = DataLoader(TensorDataset(np.arange(10)), batch_size=4, num_workers=workers, drop_last=True)
    assert [b[0].tolist() for b in short] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(short) == 2


class Noisy(Dataset):
    """An augmentation: samples that take unequal time, with noise, so that workers overtake each other."""

    def __getitem__(self, index):
        time.sleep(0.001 * (index % 3))
        return index + batch_generator().normal()

    def __len__(self):
        return 24


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_same_numbers_for_any_number_of_workers(workers):
    def epochs(count):
        ag.manual_seed(3)
        loader = DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=count)
        seen = []
        for _ in range(2):
            for batch in loader:
                seen.append((batch.tolist(), ag.rand(1).item()))  # the consumer draws too, as dropout does
        return seen

    alone = epochs(0)
    assert epochs(workers) == alone
    assert alone[:6] != alone[6:]


def test_many_permutations_read_ahead_do_not_depend_on_the_consumer():
    def draws(workers):
        ag.manual_seed(3)
        sampler = RandomSampler(range(4), num_samples=16)
        loader = DataLoader(TensorDataset(np.arange(4)), batch_size=2, sampler=sampler, num_workers=workers)
        return [(b[0].tolist(), ag.rand(1).item()) for b in loader]

    assert draws(0) == draws(3)


def test_generator_decides_the_order():
    def order(seed):
        return numbers(DataLoader(range(30), batch_size=7, shuffle=True, generator=seeded(seed)))

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(itertools.chain(*order(1))) == list(range(30))


def test_batch_generator_outside_a_loader_follows_the_default_seed():
    ag.manual_seed(5)
    first = batch_generator().normal()
    ag.manual_seed(5)
    assert batch_generator().normal() == first
    assert batch_generator().normal() != first


@pytest.mark.parametrize("workers", [0, 2])
def test_unbatched_loader_gives_single_tensors(workers):
    loader = DataLoader([np.ones(2), np.zeros(2)], batch_size=None, num_workers=workers)
    assert [(type(x), x.shape) for x in loader] == [(ag.Tensor, (2,))] * 2
    assert len(loader) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_samplers_and_collate_fn(workers):
    dataset = [10, 11, 12, 13]
    assert list(DataLoader(dataset, 3, sampler=[3, 2, 1], num_workers=workers, collate_fn=tuple)) == [(13, 12, 11)]
    loader = DataLoader(dataset, batch_sampler=[[0], [2, 3]], num_workers=workers)
    assert numbers(loader) == [[10], [12, 13]]
    assert len(loader) == 2


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_stream_is_read_once_and_in_order(workers):
    loader = DataLoader(Stream(7), batch_size=3, num_workers=workers)
    assert numbers(loader) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(loader) == 3
    assert numbers(DataLoader(Stream(7), batch_size=3, num_workers=workers, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]
    assert list(DataLoader(Stream(3), batch_size=None, num_workers=workers)) == [0, 1, 2]


def test_endless_stream_can_be_left():
    class Endless(IterableDataset):
        def __iter__(self):
            number = 0
            while True:
                yield number
                number += 1

    for workers in (0, 2):
        batches = iter(DataLoader(Endless(), batch_size=2, num_workers=workers))
        assert [next(batches).tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]


class Breaking(Squares):
    def __getitem__(self, index):
        if index == 5:
            raise KeyError("no such picture")
        return index


@pytest.mark.parametrize("workers", [0, 2])
def test_error_in_a_worker_reaches_the_consumer(workers):
    seen = []
    with pytest.raises(KeyError, match="no such picture") as caught:
        for batch in DataLoader(Breaking(8), batch_size=2, num_workers=workers):
            seen.append(batch.tolist())
    assert seen == [[0, 1], [2, 3]]
    assert "while the DataLoader was reading batch 2" in caught.value.__notes__
    assert "__getitem__" in [frame.name for frame in traceback.extract_tb(caught.tb)]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("DataLoader")]


def test_leaving_the_loop_stops_the_workers():
    read = []

    class Recording(Squares):
        def __getitem__(self, index):
            read.append(index)
            return index

    for _ in DataLoader(Recording(1000), num_workers=2):
        break
    assert loader_threads() == []
    assert len(read) <= 6  # the first, and at most num_workers * prefetch_factor read ahead


def test_error_in_the_loop_stops_the_workers():
    def consume():
        for _ in DataLoader(Squares(100), num_workers=2):
            raise RuntimeError("in the training step")

    with pytest.raises(RuntimeError, match="training step"):
        consume()
    assert loader_threads() == []


def test_workers_know_themselves():
    started = []

    class Asking(Squares):
        def __getitem__(self, index):
            time.sleep(0.005)
            return get_worker_info().id

    loader = DataLoader(Asking(20), num_workers=2, worker_init_fn=started.append)
    assert {batch.item() for batch in loader} == {0, 1}
    assert sorted(started) == [0, 1]
    assert get_worker_info() is None


def test_error_in_worker_init_reaches_the_consumer():
    def refuse(worker_id):
        raise OSError(f"worker {worker_id} has no file")

    with pytest.raises(OSError, match="has no file"):
        list(DataLoader(Squares(4), num_workers=1, worker_init_fn=refuse))


def test_persistent_workers_start_once():
    started = []
    loader = DataLoader(Squares(8), num_workers=1, persistent_workers=True, worker_init_fn=started.append)
    assert numbers_of(loader) == numbers_of(loader) == list(range(8))
    assert started == [0]
    del loader


def numbers_of(loader):
    return [index.item() for index, _ in loader]


def test_workers_really_read_ahead():
    two_at_once = threading.Barrier(2, timeout=10)  # breaks, and fails the test, if batches are read one by one

    class Meeting(Squares):
        def __getitem__(self, index):
            two_at_once.wait()
            return index

    assert numbers(DataLoader(Meeting(4), num_workers=2)) == [[0], [1], [2], [3]]


def test_timeout():
    release = threading.Event()

    class Stuck(Squares):
        def __getitem__(self, index):
            release.wait(10)
            return index

    loader = iter(DataLoader(Stuck(1), num_workers=1, timeout=0.05))
    threading.Timer(0.3, release.set).start()
    with pytest.raises(RuntimeError, match=r"timeout=0\.05"):
        next(loader)


def test_loaders_inside_a_worker():
    class Nested(Squares):
        def __getitem__(self, index):
            return sum(int(b[0].sum().item()) for b in DataLoader(TensorDataset(np.arange(4)), 2, num_workers=1))

    assert numbers(DataLoader(Nested(2), num_workers=2)) == [[6], [6]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shuffle": True, "sampler": [0]}, "sampler and shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler excludes"),
        ({"batch_size": None, "drop_last": True}, "drop_last"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"prefetch_factor": 2}, "num_workers > 0"),
        ({"persistent_workers": True}, "num_workers > 0"),
        ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"timeout": -1}, "timeout=-1"),
    ],
)
def test_contradictory_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        DataLoader([1, 2], **arguments)


def test_stream_refuses_an_order():
    with pytest.raises(ValueError, match="its own order"):
        DataLoader(Stream(3), shuffle=True)


def test_empty_data_set():
    for workers in (0, 2):
        loader = DataLoader(TensorDataset(np.zeros((0, 3))), batch_size=4, shuffle=True, num_workers=workers)
        assert list(loader) == []
        assert len(loader) == 0
