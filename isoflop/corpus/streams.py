"""Bytes out of plain, gzip and zstd files, cut into lines or pieces, in bounded memory.

A compressed file may come from anywhere, so nothing here trusts it: zstd is fed so little at a time that even
the densest frame cannot fill the memory in one step, a line has a longest length, and a stream which stops
in the middle of a frame is an error and not a shorter corpus. The window of a long zstd frame is the one
large buffer (2 GiB at most, and only if the frame asks for it).
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from isoflop.corpus.document import CorpusError, FileError, Reading

LONGEST_LINE = 256 << 20
PIECE = 64 << 10
LONGEST_PIECE = 1 << 20

_BLOCK = 1 << 20
# Four bytes of zstd can stand for a block of 128 KiB: 2 KiB of input is 64 MiB of output at the worst.
_ZSTD_INPUT = 2 << 10
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


def blocks(path: Path, reading: Reading, *, text: bool = True) -> Iterator[bytes]:
    """The decompressed bytes of a file in blocks of at most 1 MiB; its suffix says what it is.

    Raises FileError if the file is damaged, cut short, or should be text and is not; CorpusError if it cannot be read.
    """
    before = reading.disk_bytes_read
    start = b""
    try:
        with path.open("rb") as file:
            for block in _decompressed(path, file):
                if text and len(start) < 4096:
                    start += block[:4096]
                    _refuse_binary(path, start)
                reading.disk_bytes_read = before + file.tell()
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise FileError(path, f"is damaged or cut short ({error}): fetch or compress it again.") from error
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}; check its permissions.") from error


def lines(path: Path, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their newline; a line longer than 256 MiB is a FileError."""
    held: list[bytes] = []
    length = 0
    for block in blocks:
        *complete, rest = block.split(b"\n")
        if complete:
            held.append(complete[0])
            yield b"".join(held)
            yield from complete[1:]
            held, length = [], 0
        held.append(rest)
        length += len(rest)
        if length > LONGEST_LINE:
            raise FileError(
                path,
                f"has a line of more than {LONGEST_LINE >> 20} MiB: put one document on each line, "
                "or do not use this file; it may be a decompression bomb.",
            )
    if length:
        yield b"".join(held)


def pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Plain text in pieces: each ends at the first blank line after 64 KiB, and at 1 MiB at the latest.

    The bytes of the pieces are the bytes of the text, and no piece ends inside a UTF-8 character.
    """
    held = bytearray()
    for block in blocks:
        held += block
        while end := _piece_end(held):
            yield bytes(held[:end])
            del held[:end]
    if held:
        yield bytes(held)


def _piece_end(held: bytearray) -> int:
    """Where the first piece of ``held`` ends; 0 while that is not known."""
    if blank := _BLANK_LINE.search(held, PIECE, LONGEST_PIECE):
        return blank.end()
    if len(held) <= LONGEST_PIECE:
        return 0
    if newline := held.rfind(b"\n", 0, LONGEST_PIECE) + 1:
        return newline
    end = LONGEST_PIECE
    while end > LONGEST_PIECE - 4 and held[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _decompressed(path: Path, file: BinaryIO) -> Iterator[bytes]:
    if path.suffix == ".zst":
        return _unzstd(file)
    if path.suffix == ".gz":
        unpacked = gzip.GzipFile(fileobj=file)
        return iter(lambda: unpacked.read1(_BLOCK), b"")  # what comes before damage, where ``read`` would wait for more
    return iter(lambda: file.read(_BLOCK), b"")


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    """All frames of a zstd stream; the library's own streaming reader would end silently at a cut."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    frame = None
    while data := file.read(_ZSTD_INPUT):
        while data:
            frame = frame or decompressor.decompressobj()
            block = frame.decompress(data)
            for start in range(0, len(block), _BLOCK):
                yield block[start : start + _BLOCK]
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame:
        raise EOFError("the last frame has no end")


def _refuse_binary(path: Path, start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileError(path, "is UTF-16, and only UTF-8 is read: convert it, for example with iconv.")
    if b"\0" in start:
        raise FileError(path, "is not text, it holds NUL bytes: leave it out, or name it for what it is.")
