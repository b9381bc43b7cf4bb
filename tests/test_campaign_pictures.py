"Damaged picture files against the truth of their pixels: refused, or read wrong, and how often."
import random
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from semst.files import InputError
from semst.images import read_picture

KINDS = {
    "png": ("png", {}), "png of 1 byte a pixel": ("png", {}), "jpeg": ("jpg", {"quality": 90}),
    "webp": ("webp", {"quality": 80}),
    "tiff, zipped": ("tif", {"compression": "tiff_adobe_deflate"}),
    "tiff, lzw": ("tif", {"compression": "tiff_lzw"}), "gif": ("gif", {}), "qoi": ("qoi", {}),
    "bmp": ("bmp", {}), "tiff, raw": ("tif", {}),
}
KNOWS = {"png", "png of 1 byte a pixel", "tiff, zipped"}       # their pixels carry checksums


def subject(kind):
    rows, columns = np.mgrid[:96, :96]
    waves = [np.sin(columns / 9), np.cos(rows / 7), np.sin((rows + columns) / 15)]
    image = Image.fromarray(np.stack([127 + 90 * wave for wave in waves], -1).astype(np.uint8))
    image = Image.blend(image, Image.effect_noise((96, 96), 80).convert("RGB"), 0.3)
    return image.convert("P") if "1 byte" in kind or kind == "gif" else image


def harm(data, dice):
    "Cut off, zeroed, exchanged, or with some bits turned; behind the first 60 bytes."
    data, way = bytearray(data), dice.randrange(4)
    start = dice.randrange(60, len(data) - 40)
    if way == 0:
        del data[start:]
    elif way == 1:
        length = min(dice.choice([64, 512, 4096]), len(data) - start)
        data[start:start + length] = bytes(length)
    elif way == 2:
        length = min(dice.choice([16, 512]), len(data) - start)
        data[start:start + length] = dice.randbytes(length)
    else:
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(60, len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_pictures(tmp_path, kind, record_property):
    suffix, options = KINDS[kind]
    path, dice, counts = tmp_path / f"a.{suffix}", random.Random(kind), Counter()
    subject(kind).save(path, **options)
    whole = path.read_bytes()
    right = read_picture(path).flat()
    for _ in range(60):
        path.write_bytes(harm(whole, dice))
        try:
            with warnings.catch_warnings(action="ignore"):
                same = np.array_equal(read_picture(path).flat(), right)
            counts["same pixels" if same else "wrong pixels"] += 1
        except InputError as e:
            assert str(e).startswith(str(path)) and "\n" not in str(e)
            counts["refused"] += 1
    print(f"{kind}: {dict(counts)}")
    assert counts.total() == 60
    assert kind not in KNOWS or counts["wrong pixels"] == 0
