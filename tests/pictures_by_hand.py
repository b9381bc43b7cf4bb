"Picture files written by hand, for what Pillow cannot write."
import struct
import zlib

import numpy as np
from PIL import Image


def noise(w, h, seed=0, channels=3):
    shape = (h, w, channels) if channels > 1 else (h, w)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def chunk(tag, body):
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def png(pixels, colour_type, *, bits=16, size=None, extra=b""):
    "A PNG of 16-bit colours, or with a size that is a lie."
    h, w = size or pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", w, h, bits, colour_type, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def tiff(pixels, *, bits=16, photometric=1, sample_format=1):
    "A grey TIFF: any depth, white or black as zero, signed or not."
    h, w = pixels.shape
    body = pixels.tobytes()
    tags = [(256, 4, w), (257, 4, h), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
            (273, 4, 8 + 2 + 10 * 12 + 4), (277, 3, 1), (278, 4, h), (279, 4, len(body)),
            (339, 3, sample_format)]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + struct.pack("<I", 0) + body
