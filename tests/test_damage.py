"Damage that decoders pass over is found where a file can tell, and no whole file is accused."
import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from semst.damage import PNG_CHANNELS, damage, png_bytes


def photo(size=160, seed=0):
    "Something with edges, gradients and noise, as photographs have."
    rows, columns = np.mgrid[:size, :size]
    waves = [np.sin(columns / 9 + seed), np.cos(rows / 7), np.sin((rows + columns) / 15)]
    smooth = Image.fromarray(np.stack([127 + 90 * wave for wave in waves], -1).astype(np.uint8))
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.blend(smooth, Image.fromarray(noise), 0.2)


def drawing(kind, size):
    image = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(image)
    if kind == "text":
        pen.text((5, 5), "words on paper " * 8, fill="black")
    if kind == "box":
        pen.rectangle((size // 3, size // 3, size // 2, size // 2), fill="red")
    if kind == "stripes":
        for y in range(0, size, 2):
            pen.line((0, y, size, y), fill="black")
    if kind == "inset":
        image.paste(photo(size // 3), (size // 3, size // 3))
    return image


def encoded(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def found(data):
    with Image.open(io.BytesIO(data)) as image:
        return damage(data, image)


KINDS = [("JPEG", {}), ("JPEG", dict(quality=10)), ("JPEG", dict(quality=100, subsampling=0)),
         ("JPEG", dict(optimize=True)), ("JPEG", dict(progressive=True)),
         ("WEBP", dict(method=0)), ("WEBP", dict(quality=100)), ("WEBP", dict(lossless=True)),
         ("WEBP", dict(lossless=True, method=0)),
         ("TIFF", {}), ("TIFF", dict(compression="tiff_lzw")),
         ("TIFF", dict(compression="tiff_adobe_deflate")), ("TIFF", dict(compression="jpeg")),
         ("TIFF", dict(compression="packbits")), ("PNG", {}), ("BMP", {}), ("GIF", {}), ("PPM", {})]


@pytest.mark.parametrize("suffix, options", KINDS, ids=lambda value: str(value))
def test_no_whole_file_is_accused(suffix, options):
    pictures = [photo(n) for n in (1, 7, 160)]
    pictures += [drawing(kind, n) for kind in ("white", "text", "box", "stripes", "inset")
                 for n in (64, 700)]
    for picture in pictures:
        for mode in ("RGB", "L"):
            if (suffix, mode) != ("TIFF", "L") or options.get("compression") != "jpeg":
                assert found(encoded(picture.convert(mode), suffix, **options)) == ""


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_no_whole_png_or_tiff_of_any_mode_is_accused(mode):
    picture = photo(33).convert("L").point(lambda v: v * 257, "I").convert("I;16") \
        if mode == "I;16" else photo(33).convert(mode)
    assert found(encoded(picture, "PNG")) == ""
    for compression in (None, "tiff_adobe_deflate"):
        assert found(encoded(picture, "TIFF", compression=compression)) == ""


HOLES = [("JPEG", {}), ("JPEG", dict(quality=95)), ("JPEG", dict(optimize=True)),
         ("WEBP", {}), ("TIFF", dict(compression="tiff_adobe_deflate")),
         ("TIFF", dict(compression="tiff_lzw")), ("PNG", {})]


@pytest.mark.parametrize("suffix, options", HOLES, ids=lambda value: str(value))
def test_a_lost_sector_is_never_read_silently(suffix, options):
    "256, 512 or 4096 bytes of zeros: an error of the decoder, a finding, or the same pixels."
    dice, silent, tried = random.Random(0), 0, 40
    for trial in range(tried):
        data = encoded(photo(256, seed=trial % 5), suffix, **options)
        size = min(dice.choice([256, 512, 4096]), len(data) // 4)
        start = dice.randrange(len(data) // 10, len(data) - size)
        holed = data[:start] + bytes(size) + data[start + size:]
        try:
            right = Image.open(io.BytesIO(data)).convert("RGB").tobytes()
            wrong = Image.open(io.BytesIO(holed)).convert("RGB").tobytes() != right
            silent += wrong and not found(holed)
        except (OSError, SyntaxError):
            pass
    assert silent == 0


# ---- PNG

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, bits, colour, rows, interlaced=0, palette=True):
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    plte = chunk(b"PLTE", bytes(range(3 * 2))) if colour == 3 and palette else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + plte
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def bytes_by_hand(width, height, bits, colour, interlaced):
    "Seven small pictures, pixel by pixel: which pass each pixel of the 8x8 pattern belongs to."
    adam7 = ["16462646", "77777777", "56565656", "77777777",
             "36463646", "77777777", "56565656", "77777777"]
    if not interlaced:
        return height * (1 + (width * bits * PNG_CHANNELS[colour] + 7) // 8)
    total = 0
    for number in "1234567":
        rows = [sum(adam7[y % 8][x % 8] == number for x in range(width)) for y in range(height)]
        total += sum(1 + (n * bits * PNG_CHANNELS[colour] + 7) // 8 for n in rows if n)
    return total


@pytest.mark.parametrize("colour, bits", [(0, 1), (0, 8), (0, 16), (2, 8), (3, 4), (4, 8), (6, 16)])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_the_length_of_pixels(colour, bits, interlaced):
    for width, height in ((1, 1), (2, 3), (5, 1), (8, 8), (9, 17), (3, 5)):
        wanted = bytes_by_hand(width, height, bits, colour, interlaced)
        assert png_bytes(width, height, bits, colour, interlaced) == wanted


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("missing", [1, 9, 40])
def test_missing_rows_are_counted(interlaced, missing):
    whole = bytes(png_bytes(20, 10, 8, 2, interlaced))
    assert found(png(20, 10, 8, 2, whole, interlaced)) == ""
    assert "its pixels end after" in found(png(20, 10, 8, 2, whole[:-missing], interlaced))


def test_a_missing_palette_is_found():
    rows = bytes(png_bytes(8, 8, 8, 3, 0))
    assert found(png(8, 8, 8, 3, rows)) == ""
    assert found(png(8, 8, 8, 3, rows, palette=False)) == "its palette is missing"


def test_damage_in_a_comment_is_no_damage_of_the_pixels():
    data = encoded(photo(20), "PNG")
    comment = chunk(b"tEXt", b"Comment\0words")
    with_comment = data[:33] + comment[:-1] + b"\0" + data[33:]
    with Image.open(io.BytesIO(data)) as image:
        assert damage(with_comment, image) == ""


# ---- TIFF

@pytest.mark.parametrize("tag", ["places", "sizes"])
def test_a_piece_that_was_never_written_is_found(tag):
    data = bytearray(encoded(photo(64), "TIFF", compression="tiff_adobe_deflate", strip_size=4096))
    with Image.open(io.BytesIO(data)) as image:
        numbers = image.tag_v2[273 if tag == "places" else 279]
        assert len(numbers) > 2
    table = struct.pack(f"<{len(numbers)}L", *numbers)
    short = struct.pack(f"<{len(numbers)}H", *numbers) if max(numbers) < 65536 else table
    place, width = (data.find(table), 4) if table in data else (data.find(short), 2)
    assert place > 0
    data[place + width:place + 2 * width] = bytes(width)
    assert "piece 2 of" in found(bytes(data))


def test_a_table_with_too_few_pieces_is_found():
    data = encoded(photo(64), "TIFF", strip_size=4096)
    with Image.open(io.BytesIO(data)) as image:
        pieces = len(image.tag_v2[273])
        image.tag_v2[273] = image.tag_v2[273][:-1]
        assert damage(data, image) == f"1 of its {pieces} pieces are missing"
        image.tag_v2[273] = tuple(10**9 for _ in range(pieces))
        assert "behind its end" in damage(data, image)


def test_anything_odd_in_a_structure_is_a_finding_and_no_error():
    dice = random.Random(1)
    for suffix, options in KINDS:
        data = encoded(photo(40), suffix, **options)
        with Image.open(io.BytesIO(data)) as image:
            for _ in range(60):
                odd = bytearray(data[:dice.randrange(8, len(data))])
                for _ in range(dice.randint(0, 8)):
                    odd[dice.randrange(len(odd))] = dice.randrange(256)
                assert isinstance(damage(bytes(odd), image), str)
