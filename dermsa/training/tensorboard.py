"""The epochs of a run as TensorBoard shows them, without TensorFlow or TensorBoard.

    tensorboard --logdir runs        # where somebody has TensorBoard

An event file is a row of records: length, checksum, an `Event` message, checksum. The message is
a protocol buffer with few fields (tensorflow/core/util/event.proto, framework/summary.proto);
checksums are CRC-32C, masked as in tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

FOLDER = "tensorboard"


class EventFile:
    """Writes one event file; made with its first epoch.

    Each process that trains a run writes a file of its own. TensorBoard puts them together, and
    where a resumed run repeats an epoch, the later file counts.

    Args:
        folder: Where it lies.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._path: Path | None = None

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds the figures of an epoch.

        Raises:
            OSError: The disk is full.
        """
        records = []
        if self._path is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.0f}.{os.uname().nodename}.{os.getpid()}"
            self._path = self.folder / name
            records.append(_event(_bytes(3, b"brain.Event:2")))
        summary = b"".join(
            _bytes(1, _bytes(1, name.encode()) + struct.pack("<Bf", 2 << 3 | 5, value))
            for name, value in values.items()
        )
        records.append(_event(_number(2, epoch) + _bytes(5, summary)))
        with self._path.open("ab") as file:
            file.write(b"".join(map(_record, records)))


def _event(fields: bytes) -> bytes:
    return struct.pack("<Bd", 1 << 3 | 1, time.time()) + fields


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked_crc(length) + content + _masked_crc(content)


def _masked_crc(content: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # Castagnoli's polynomial
    return value


_CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]
