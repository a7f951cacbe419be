"""Compressed files and ZIP archives, read and written like the dataset files that they hold.

Nothing is unpacked to disk, and what grows beyond reason while it is read is refused.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from release_kit.datasets.dataset_format import (
    Batch,
    Flaw,
    Format,
    Kind,
    Reader,
    Text,
    Writer,
)
from release_kit.datasets.mistakes import unusable
from release_kit.datasets.pieces import decoded
from release_kit.datasets.streams import CHUNK

# A text of nothing but one letter shrinks a thousandfold; no dataset we know, a hundredfold.
_LARGEST_RATIO = 250
_ALWAYS_FINE = 1 << 26
_LARGEST = 1 << 40
# Little at a time: four bytes of Zstandard can stand for 128 kB.
_ZSTD_INPUT = 1 << 11
_ENCRYPTED = 0x1

_TOO_LARGE = f"grows to more than {_LARGEST_RATIO} times its size"
_DAMAGED = "is damaged or not whole, or not what its name says"
_FILE_NAME = "(file name)"
_COMMENT = "(comment)"

COMPRESSIONS = (".gz", ".zst")
"""Suffixes of compressed files; they stand behind a format's own."""


def compressed(inner: Format, suffix: str) -> Format:
    """Return the format of files of `inner` that are compressed as `suffix` says."""
    unpack, pack = {".gz": (_gunzipped, _gzip), ".zst": (_unzstd, _zstd)}[suffix]

    def unpacked(stream: BinaryIO, name: str) -> BinaryIO:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        return io.BufferedReader(_Bounded(unpack(stream, name), size, name), CHUNK)

    return Format(
        f"{inner.name} ({suffix})",
        tuple(each + suffix for each in inner.suffixes),
        lambda stream, name: _PackedReader(inner.open(unpacked(stream, name), name), pack),
        lambda stream, name: inner.records(unpacked(stream, name), name),
    )


class _PackedReader:
    """Reads what is unpacked, and packs the copy."""

    def __init__(self, inner: Reader, pack: Callable[[BinaryIO], Any]) -> None:
        self._inner = inner
        self._pack = pack

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._inner)

    def writer(self, target: BinaryIO) -> Writer:
        packed = self._pack(target)
        return _PackedWriter(self._inner.writer(packed), packed)


class _PackedWriter:
    def __init__(self, inner: Writer, packed: Any) -> None:
        self._inner = inner
        self._packed = packed

    def write(self, edited: Any) -> None:
        self._inner.write(edited)

    def close(self) -> None:
        self._inner.close()
        self._packed.close()


class _Bounded(io.RawIOBase):
    """Reads what is unpacked, as long as it stays within reason."""

    def __init__(self, unpack: Callable[[int], bytes], size: int, name: str) -> None:
        self._unpack = unpack
        self._left = min(_LARGEST, max(_ALWAYS_FINE, size * _LARGEST_RATIO))
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data: bytes | None = None
        try:
            data = self._unpack(len(view))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError, RuntimeError):
            pass
        except Exception as error:  # zstandard's own errors share no base but this one
            if type(error).__name__ != "ZstdError":
                raise
        # Raised outside the handler: an error may hold bytes of what it stumbled on.
        if data is None:
            raise unusable(self._name, _DAMAGED)
        self._left -= len(data)
        if self._left < 0:
            raise unusable(self._name, _TOO_LARGE)
        view[: len(data)] = data
        return len(data)


# --- gzip and Zstandard


def _gunzipped(stream: BinaryIO, name: str) -> Callable[[int], bytes]:
    return gzip.GzipFile(fileobj=stream, mode="rb").read


def _gzip(target: BinaryIO) -> Any:
    # Neither a time nor a name, so that equal content gives equal bytes.
    return gzip.GzipFile(filename="", fileobj=target, mode="wb", mtime=0)


def _zstandard(name: str) -> Any:
    try:
        import zstandard
    except ImportError:
        raise unusable(name, "needs zstandard", hint="pip install zstandard") from None
    return zstandard


def _unzstd(stream: BinaryIO, name: str) -> Callable[[int], bytes]:
    return _ZstdFrames(stream, _zstandard(name)).read


class _ZstdFrames:
    """Unpacks frame after frame; unlike zstandard's own reader it tells a frame that is cut off."""

    def __init__(self, stream: BinaryIO, zstandard: Any) -> None:
        self._stream = stream
        self._zstandard = zstandard
        self._frame: Any = None
        self._input = b""
        self._output = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._output:
            if not self._input:
                self._input = self._stream.read(_ZSTD_INPUT)
            if not self._input:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            self._output = memoryview(self._frame.decompress(self._input))
            self._input = b""
            if self._frame.eof:
                self._input = self._frame.unused_data
                self._frame = None
        data, self._output = self._output[:size], self._output[size:]
        return bytes(data)


def _zstd(target: BinaryIO) -> Any:
    compressor = _zstandard("the copy").ZstdCompressor(write_checksum=True)
    return compressor.stream_writer(target, closefd=False)


# --- ZIP


def zip_of(find: Callable[[str], Format | None]) -> Format:
    """Return the format of ZIP archives; `find` tells the format of a name in them, if any."""

    def records(stream: BinaryIO, name: str) -> Iterator[Mapping[str, Any]]:
        archive = _archive(stream, name)
        for number, info in enumerate(_files(archive), 1):
            inner, problem = _format_in(archive, info, find)
            if inner is None:
                raise unusable(name, f"file {number} of the archive {problem}")
            yield from inner.records(_member(archive, info, name), name)

    return Format("ZIP", (".zip",), lambda stream, name: _ZipReader(stream, name, find), records)


class _ZipReader:
    """The files of an archive one after the other; each one's records begin at 1 again."""

    def __init__(self, stream: BinaryIO, name: str, find: Callable[[str], Format | None]) -> None:
        self._archive = _archive(stream, name)
        self._name = name
        self._find = find

    def __iter__(self) -> Iterator[_LeftBatch | _FileBatch | _InnerBatch]:
        yield _LeftBatch(_left_texts(self._archive))
        for number, info in enumerate(_files(self._archive), 1):
            inner, problem = _format_in(self._archive, info, self._find)
            if inner is None:
                flaw = Flaw(0, 0, 0, f"file {number} of the archive {problem}")
                yield _FileBatch(info, None, _name_texts(info), (flaw,))
                continue
            reader = inner.open(_member(self._archive, info, self._name), self._name)
            yield _FileBatch(info, reader, _name_texts(info))
            for batch in reader:
                yield _InnerBatch(batch, f"[{number - 1}]»")

    def writer(self, target: BinaryIO) -> Writer:
        return _ZipWriter(target)


@dataclass(frozen=True)
class _LeftBatch:
    """What an archive says that no copy holds: comments, and the names of folders."""

    texts: Sequence[Text] = field(repr=False)
    flaws: Sequence[Flaw] = ()
    records: int = 0
    lines: int = 0

    def edited(
        self,
        changes: Mapping[int, str],
        dropped_records: Collection[int] = (),
        dropped_fields: Collection[int] = (),
    ) -> None:
        """Return nothing: nobody copies it."""


@dataclass(frozen=True)
class _FileBatch:
    """A file of an archive: its name."""

    _info: zipfile.ZipInfo = field(repr=False)
    _reader: Reader | None = field(repr=False)
    texts: Sequence[Text] = field(repr=False)
    flaws: Sequence[Flaw] = ()
    records: int = 0
    lines: int = 0

    def edited(
        self,
        changes: Mapping[int, str],
        dropped_records: Collection[int] = (),
        dropped_fields: Collection[int] = (),
    ) -> _NewFile | None:
        """Return how the file begins; None when it cannot be read, for then nobody copies it."""
        if self._reader is None:
            return None
        stem = _stem(self._info)
        suffix = self._info.filename[len(stem) :]
        new = "file" if dropped_fields else changes.get(0, stem)
        # A new name must lead nowhere else.
        new = "/".join(part for part in new.split("/") if part not in ("", ".", ".."))
        return _NewFile(self._info, new.replace("\\", "_") + suffix, self._reader)


class _NewFile(NamedTuple):
    info: zipfile.ZipInfo
    name: str
    reader: Reader

    def __repr__(self) -> str:
        return "_NewFile()"


@dataclass(frozen=True)
class _InnerBatch:
    """A batch of a file of an archive; its fields say which file's they are."""

    _batch: Batch = field(repr=False)
    _prefix: str

    @property
    def texts(self) -> Sequence[Text]:
        """The texts of the batch."""
        return [text._replace(field=self._prefix + text.field) for text in self._batch.texts]

    @property
    def records(self) -> int:
        """How many records it holds."""
        return self._batch.records

    @property
    def lines(self) -> int:
        """How many lines it holds."""
        return self._batch.lines

    @property
    def flaws(self) -> Sequence[Flaw]:
        """What could not be read."""
        return self._batch.flaws

    def edited(
        self,
        changes: Mapping[int, str],
        dropped_records: Collection[int] = (),
        dropped_fields: Collection[int] = (),
    ) -> _Inner:
        """Return what the file's own writer takes."""
        return _Inner(self._batch.edited(changes, dropped_records, dropped_fields))


class _Inner(NamedTuple):
    edited: Any

    def __repr__(self) -> str:
        return "_Inner()"


class _ZipWriter:
    """Writes an archive with the files' times, rights and methods, and without comments."""

    def __init__(self, target: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(target, "w")
        self._names: set[str] = set()
        self._open: tuple[Writer, Any] | None = None

    def write(self, edited: Any) -> None:
        if edited is None:
            return
        if isinstance(edited, _Inner):
            if self._open is not None:
                self._open[0].write(edited.edited)
            return
        self._finish()
        old = edited.info
        info = zipfile.ZipInfo(self._free(edited.name), old.date_time)
        info.compress_type = old.compress_type
        info.external_attr = old.external_attr
        info.create_system = old.create_system
        stream = self._archive.open(info, "w", force_zip64=True)
        self._open = edited.reader.writer(stream), stream

    def close(self) -> None:
        self._finish()
        self._archive.close()

    def _free(self, name: str) -> str:
        stem, dot, suffix = name.partition(".")
        number = 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}{dot}{suffix}"
        self._names.add(name)
        return name

    def _finish(self) -> None:
        if self._open is not None:
            writer, stream = self._open
            writer.close()
            stream.close()
            self._open = None


def _archive(stream: BinaryIO, name: str) -> zipfile.ZipFile:
    archive: zipfile.ZipFile | None = None
    with suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        archive = zipfile.ZipFile(stream)
    if archive is None:
        raise unusable(name, _DAMAGED)
    size = stream.seek(0, io.SEEK_END)
    grown = sum(info.file_size for info in archive.infolist())
    if grown > max(_ALWAYS_FINE, size * _LARGEST_RATIO):
        raise unusable(name, _TOO_LARGE)
    return archive


def _files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [info for info in archive.infolist() if not info.is_dir()]


def _format_in(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, find: Callable[[str], Format | None]
) -> tuple[Format | None, str]:
    """Return the format of a file of the archive, or why it is not read."""
    path = PurePosixPath(info.filename)
    if info.flag_bits & _ENCRYPTED:
        return None, "is encrypted"
    if archive.NameToInfo.get(info.filename) is not info:
        return None, "has the name of another one"
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
        return None, "has a path that leads out of it"
    if path.suffix.lower() in (*COMPRESSIONS, ".zip"):
        return None, "is a container in a container, which is not opened"
    found = find(info.filename)
    return found, "" if found else "has no dataset format that is known here"


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> BinaryIO:
    stream: Any = None
    with suppress(zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        stream = archive.open(info)
    if stream is None:
        raise unusable(name, _DAMAGED)
    return io.BufferedReader(_Bounded(stream.read, info.compress_size, name), CHUNK)


def _stem(info: zipfile.ZipInfo) -> str:
    suffix = PurePosixPath(info.filename).suffix
    return info.filename.removesuffix(suffix)


def _name_texts(info: zipfile.ZipInfo) -> list[Text]:
    return [Text(_stem(info), Kind.TEXT, 0, 0, _FILE_NAME)]


def _left_texts(archive: zipfile.ZipFile) -> list[Text]:
    comments = [archive.comment, *(info.comment for info in archive.infolist())]
    folders = [info.filename.rstrip("/") for info in archive.infolist() if info.is_dir()]
    return [
        *(Text(decoded(raw), Kind.TEXT, 0, 0, _COMMENT) for raw in comments if raw),
        *(Text(name, Kind.TEXT, 0, 0, _FILE_NAME) for name in folders if name),
    ]
