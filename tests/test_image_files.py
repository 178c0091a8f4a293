"""Image files of the user's own: found, decoded once, split, trained on and classified."""

import json
import os
import struct
import zlib

import numpy
import pytest
import torch
from conftest import ROOT
from PIL import Image, TiffImagePlugin

from unroll.errors import UserError
from unroll.training.split import set_aside
from vision.data.data_modules import ImageFiles
from vision.data.files import decode, find_images, read_image, readable_endings
from vision.data.shapes import NAMES, draw_shapes

RED, BLUE = (255, 0, 0), (0, 0, 255)


def write_shapes(folder, count, seed=0, side=48):
    """Drawn shapes as files, in a folder for each class."""
    pixels, labels = draw_shapes(count, seed)
    for number, (image, label) in enumerate(zip(pixels.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True)):
        of_class = folder / NAMES[label]
        of_class.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((side, side)).save(of_class / f"{number}.png")


@pytest.fixture
def data(tmp_path):
    def make(path=tmp_path / "images", **settings):
        given = {"batch_size": 2, "pad": 0, "flip": False, "size": 16, "cache": str(tmp_path / "cache"), **settings}
        return ImageFiles(path=str(path), **given)

    return make


# How a file is made, and the shades that are read left and right, or why it is refused.
KINDS = {
    "8 bits": (numpy.uint8, [50, 200], ".png", (50, 200)),
    "16 bits, PNG": (numpy.uint16, [50 * 257, 200 * 257], ".png", (50, 200)),
    "16 bits, TIFF": (numpy.uint16, [50 * 257, 200 * 257], ".tif", (50, 200)),
    "16 bits of which 12 count": (numpy.uint16, [500, 4000], ".png", (31, 249)),
    "16 bits of which 14 count": (numpy.uint16, [4000, 5000], ".tif", (62, 78)),
    "16 bits of which 8 count": (numpy.uint16, [50, 200], ".png", (50, 200)),
    "below 0": (numpy.int32, [-500, 4000], ".tif", "integers below 0, from -500 to 4000"),
    "floats from 0 to 1": (numpy.float32, [0.2, 0.8], ".tif", (51, 204)),
    "floats beyond": (numpy.float32, [-0.5, 0.5], ".tif", "floats outside 0 to 1, from -0.5 to 0.5"),
    "floats to 255": (numpy.float32, [50, 200], ".tif", "floats outside 0 to 1, from 50.0 to 200.0"),
    "not a number": (numpy.float32, [numpy.nan, 0.5], ".tif", "floats outside 0 to 1"),
    "32 bits": (numpy.int32, [50, 200], ".tif", "integers of 32 bits, from 50 to 200"),
}  # fmt: skip


def write_png(path, *parts):
    """A file of parts, each a name of four letters and its data."""
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def tiff_of_inks(values, order, planes):
    """8 by 8 pixels of four inks, 16 bits each; `planes`: 1 if they lie pixel by pixel, 2 if ink by ink."""
    pixels = struct.pack(order + "4H", *values) * 64
    behind = 10 + 12 * 10 + 4  # the entries; here are the four sizes in bits, and then the pixels
    entries = [(256, 1, 8), (257, 1, 8), (258, 4, behind), (259, 1, 1), (262, 1, 5)]
    entries += [(273, 1, behind + 8), (277, 1, 4), (278, 1, 8), (279, 1, len(pixels)), (284, 1, planes)]
    found = b"".join(
        struct.pack(order + "HHI", tag, 3, count) + struct.pack(order + ("I" if count > 1 else "HH"), *value)
        for tag, count, value in ((tag, count, (value,) if count > 1 else (value, 0)) for tag, count, value in entries)
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    return head + found + bytes(4) + struct.pack(order + "4H", 16, 16, 16, 16) + pixels


class TestReading:
    def colours(self, path, size=8):
        """The colours left and right of the middle."""
        image = read_image(path, size)
        assert (image.dtype, image.shape) == (torch.uint8, (3, size, size))
        return tuple(image[:, 0, 0].tolist()), tuple(image[:, -1, -1].tolist())

    def check(self, path, expected):
        """A file has the shades of grey that are expected, or is refused with these words."""
        if isinstance(expected, str):
            with pytest.raises(UserError, match=expected):
                read_image(path, 8)
        else:
            assert self.colours(path) == tuple((shade,) * 3 for shade in expected)

    @pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "bmp"])
    @pytest.mark.parametrize("shape", [(10, 40), (40, 10), (3, 3), (8, 8)])
    def test_any_format_and_size_is_scaled(self, tmp_path, ending, shape):
        Image.new("RGB", shape, RED).save(tmp_path / f"a.{ending}")
        near = numpy.array(self.colours(tmp_path / f"a.{ending}")) - numpy.array(RED)
        assert abs(near).max() <= 3  # JPEG and WebP are lossy

    @pytest.mark.parametrize("kind", KINDS)
    def test_numbers_are_read_at_their_own_range_or_refused(self, tmp_path, kind):
        dtype, values, ending, expected = KINDS[kind]
        pixels = numpy.array([values], dtype).repeat(4, axis=1).repeat(8, axis=0)
        path = tmp_path / f"a{ending}"
        Image.fromarray(pixels).save(path)
        self.check(path, expected)

    @pytest.mark.parametrize("bits", [12, 16])
    @pytest.mark.parametrize("values", [(50, 100, 200), (50, 100, 200, 255), (200, 255)], ids=["RGB", "RGBA", "LA"])
    def test_colours_of_16_bits_keep_the_upper_8_that_count(self, tmp_path, values, bits):
        one = b"".join(struct.pack(">H", (value << bits - 8) + 7) for value in values)
        kind = {3: 2, 4: 6, 2: 4}[len(values)]
        path = tmp_path / "a.png"
        write_png(
            path,
            (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)),
            (b"IDAT", zlib.compress((b"\0" + 8 * one) * 8)),
            (b"IEND", b""),
        )
        if (len(values), bits) == (2, 12):
            with pytest.raises(UserError, match="grey of less than 16 bits in 16, with transparency; save them in 8"):
                read_image(path, 8)
        else:
            expected = values[:3] if len(values) > 2 else 3 * values[:1]
            assert numpy.allclose(self.colours(path), expected, atol=2)  # what alpha leaves of white, and rounding

    @pytest.mark.parametrize(
        ("tag", "now", "shade"), [(262, 0, 255 - 249), (339, 2, 249)], ids=["0 is white", "signed"]
    )
    def test_a_scan(self, tmp_path, tag, now, shade):
        path = tmp_path / "a.tif"
        Image.fromarray(numpy.full((8, 8), 1000, numpy.uint16)).save(path)
        written, changed = (struct.pack("<HHIH", tag, 3, 1, value) for value in (1, now))
        path.write_bytes(path.read_bytes().replace(written, changed))
        assert self.colours(path) == 2 * ((shade,) * 3,)

    @pytest.mark.parametrize(
        ("dtype", "format", "values", "expected"),
        [
            (numpy.uint8, 2, [50, 200], "integers below 0, from -56 to 50"),
            (numpy.uint8, 2, [50, 100], (50, 100)),
            (numpy.int32, 1, [50, -2], "integers of 32 bits, from 50 to 4294967294"),
        ],
        ids=["signed bytes", "signed bytes from 0 on", "unsigned, 32 bits"],
    )
    def test_a_scan_that_says_whether_numbers_have_signs(self, tmp_path, dtype, format, values, expected):
        path = tmp_path / "a.tif"
        pixels = numpy.array([values], dtype).repeat(4, axis=1).repeat(8, axis=0)
        info = TiffImagePlugin.ImageFileDirectory_v2()
        given = info[339] = 2 if format == 1 else 1
        Image.fromarray(pixels).save(path, tiffinfo=info)
        written, changed = (struct.pack("<HHIH", 339, 3, 1, value) for value in (given, format))
        assert path.read_bytes().count(written) == 1
        path.write_bytes(path.read_bytes().replace(written, changed))
        self.check(path, expected)

    @pytest.mark.parametrize("bits", [12, 16])
    @pytest.mark.parametrize("kind", [0, 2], ids=["grey", "colours"])
    def test_a_transparent_colour_of_16_bits_becomes_white(self, tmp_path, kind, bits):
        values = [(100 << bits - 8) + 7] if kind == 0 else [(value << bits - 8) + 7 for value in (50, 100, 200)]
        one = struct.pack(f">{len(values)}H", *values)
        write_png(
            tmp_path / "a.png",
            (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)),
            (b"tRNS", one),
            (b"IDAT", zlib.compress((b"\0" + 4 * one + 4 * bytes(len(one))) * 8)),
            (b"IEND", b""),
        )
        assert self.colours(tmp_path / "a.png") == ((255, 255, 255), (0, 0, 0))

    @pytest.mark.parametrize(
        ("kind", "white", "values", "expected"),
        [
            ("P5", 4095, [500], [31]),
            ("P5", 65535, [500], [125]),  # of 10 bits
            ("P6", 4095, [500, 4000, 0], [31, 249, 0]),
            ("P6", 65535, [51400, 12850, 0], [200, 50, 0]),
            ("P6", 65535, [500, 4000, 0], [31, 249, 0]),
            ("P6", 1000, [500, 1000, 0], [127, 255, 0]),
            ("P2", 4095, [500], [31]),
            ("P3", 1023, [500, 1000, 0], [125, 249, 0]),
        ],
    )
    def test_a_map_that_says_which_value_is_white(self, tmp_path, kind, white, values, expected):
        """Where that is the largest of 16 bits, values are read like others of 16 bits."""
        plain = " ".join(map(str, values)).encode() + b" "
        pixel = plain if kind in ("P2", "P3") else struct.pack(f">{len(values)}H", *values)
        path = tmp_path / ("a.pgm" if len(values) == 1 else "a.ppm")
        path.write_bytes(f"{kind} 8 8 {white}\n".encode() + 64 * pixel)
        assert numpy.allclose(self.colours(path), expected * (3 // len(values)), atol=1)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize(
        ("values", "planes", "expected"),
        [
            ([0, 51400, 12850, 0], 1, [255, 55, 205]),
            ([0, 3200, 800, 0], 1, [255, 56, 205]),  # of 12 bits
            (
                [0, 3200, 800, 0],
                2,
                "its pixels are 16 bits in a plane for each colour; save them pixel by pixel, or in",
            ),
        ],
    )
    def test_inks_of_16_bits(self, tmp_path, order, values, planes, expected):
        path = tmp_path / "a.tif"
        path.write_bytes(tiff_of_inks(values, order, planes))
        if isinstance(expected, str):
            with pytest.raises(UserError, match=expected):
                read_image(path, 8)
        else:
            assert numpy.allclose(self.colours(path), expected, atol=1)

    @pytest.mark.parametrize("ending", ["gif", "webp", "tiff", "png"])
    def test_the_first_of_several_images_is_read_and_said(self, tmp_path, data, ending):
        write_shapes(tmp_path / "images", 40)
        frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
        path = tmp_path / "images" / "disc" / f"moving.{ending}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        (left, right) = self.colours(path)
        assert numpy.allclose([left, right], [RED, RED], atol=3)
        assert "files with several images, of which the first is read: 1" in data(valid_fraction=0.5).summary()

    def test_a_palette_with_a_transparent_colour(self, tmp_path):
        image = Image.new("P", (8, 8), 0)
        image.putpalette([0, 0, 0, *RED])
        image.paste(1, (0, 0, 4, 8))
        image.save(tmp_path / "a.png", transparency=0)
        assert self.colours(tmp_path / "a.png") == (RED, (255, 255, 255))

    def test_a_photograph_of_a_telephone(self, tmp_path):
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
        Image.new("RGB", (64, 64), RED).save(tmp_path / "a.heic")
        assert numpy.allclose(self.colours(tmp_path / "a.heic"), [RED, RED], atol=4)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
    def test_any_mode_becomes_three_colours(self, tmp_path, mode):
        Image.new(mode, (9, 9), 1 if mode == "1" else None).save(tmp_path / ("a.tiff"))
        self.colours(tmp_path / "a.tiff")

    @pytest.mark.parametrize("name", ["some.png", "some.eps"])
    def test_no_program_is_started_for_a_drawing(self, tmp_path, monkeypatch, name):
        ghostscript = tmp_path / "bin" / "gs"
        ghostscript.parent.mkdir()
        ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        ghostscript.chmod(0o755)
        monkeypatch.setenv("PATH", f"{ghostscript.parent}:{os.environ['PATH']}")
        (tmp_path / name).write_text(
            "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
        )
        with pytest.raises(UserError, match=f"{name}: not an image that can be read"):
            read_image(tmp_path / name, 8)
        assert not (tmp_path / "started").exists()
        assert ".eps" not in readable_endings()

    def test_what_is_transparent_becomes_white(self, tmp_path):
        Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "a.png")
        assert self.colours(tmp_path / "a.png") == ((255, 255, 255), (255, 255, 255))

    def test_a_photograph_is_turned_as_the_camera_was_held(self, tmp_path):
        image = Image.new("RGB", (16, 16), RED)
        image.paste(BLUE, (0, 0, 16, 8))  # blue above red
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned to the right by a quarter
        image.save(tmp_path / "a.png", exif=exif)
        assert self.colours(tmp_path / "a.png") == (RED, BLUE)

    def test_the_middle_is_taken(self, tmp_path):
        image = Image.new("RGB", (32, 8), RED)
        image.paste(BLUE, (12, 0, 20, 8))
        image.save(tmp_path / "a.png")
        assert self.colours(tmp_path / "a.png") == (BLUE, BLUE)


class TestFinding:
    def test_files_in_folders_within_a_class_belong_to_it(self, tmp_path):
        for name in ("cat/a.png", "cat/old/b.PNG", "dog/c.jpg", "dog/notes.txt", ".git/d.png", "cat/.e.png", "f.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"image")
        found = find_images(tmp_path)
        assert [str(file.relative_to(tmp_path)) for file in found.files] == ["cat/a.png", "cat/old/b.PNG", "dog/c.jpg"]
        assert found.labels == ["cat", "cat", "dog"]

    @pytest.mark.parametrize("names", [[], ["cat/a.png"], ["a.png", "b.png"], ["cat/a.png", "dog/notes.txt"]])
    def test_fewer_than_two_classes_are_refused(self, tmp_path, names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"image")
        with pytest.raises(UserError, match="must have a folder for each class, two at least"):
            find_images(tmp_path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"none: cannot be read \(No such file or directory\)"):
            find_images(tmp_path / "none")


class TestDecoding:
    def test_files_are_decoded_once_and_again_when_one_has_changed(self, tmp_path, capsys):
        write_shapes(tmp_path / "images", 20)
        files = find_images(tmp_path / "images").files
        first, again = (decode(files, 16, tmp_path / "cache") for _ in range(2))
        assert torch.equal(first.pixels, again.pixels)
        assert torch.equal(first.pixels, torch.stack([read_image(file, 16) for file in files]))
        assert capsys.readouterr().err.count("reading 20 images once") == 1
        Image.new("RGB", (5, 5), BLUE).save(files[3])
        changed = decode(files, 16, tmp_path / "cache")
        assert changed.pixels[3, :, 0, 0].tolist() == list(BLUE)
        assert capsys.readouterr().err.count("reading 20 images once") == 1

    def test_what_was_not_finished_is_made_again(self, tmp_path):
        write_shapes(tmp_path / "images", 20)
        files = find_images(tmp_path / "images").files
        whole = decode(files, 16, tmp_path / "cache").pixels.clone()
        (pixels,) = (tmp_path / "cache" / "images").glob("*.bin")
        pixels.write_bytes(b"half")
        pixels.with_suffix(".json").unlink()  # it is written last
        assert torch.equal(decode(files, 16, tmp_path / "cache").pixels, whole)

    @pytest.mark.parametrize(("values", "shades"), [([60, 4000], [4, 249]), ([60, 40000], [0, 156])])
    def test_as_many_of_16_bits_count_in_all_files_as_one_needs(self, tmp_path, values, shades):
        for number, value in enumerate(values):
            Image.fromarray(numpy.full((8, 8), value, numpy.uint16)).save(tmp_path / f"{number}.png")
        files = sorted(tmp_path.glob("*.png"))
        found = decode(files, 8, tmp_path / "cache")
        assert found.pixels[:, 0, 0, 0].tolist() == shades
        darker = decode(files[:1], 8, tmp_path / "cache", found.bits)  # such as validation images
        assert torch.equal(darker.pixels, found.pixels[:1])
        assert torch.equal(read_image(files[0], 8, found.bits), found.pixels[0])  # one to be classified


class TestParts:
    def test_a_damaged_file_is_named_and_left_out(self, tmp_path, data):
        write_shapes(tmp_path / "images", 100)
        damaged, *_ = (tmp_path / "images" / "disc").iterdir()
        damaged.write_bytes(damaged.read_bytes()[:100])
        made = data()
        assert f"files left out, as they can't be read: 1 ({damaged})" in made.summary()
        assert len(made.splits.train.labels) + len(made.splits.valid.labels) == 99
        assert made.splits.train.pixels.flatten(1).any(1).all()  # the black one is not among them

    def test_what_is_refused_is_left_out_with_its_reason(self, tmp_path, data):
        write_shapes(tmp_path / "images", 100)
        beyond = tmp_path / "images" / "disc" / "a.tif"
        Image.fromarray(numpy.full((8, 8), 7, numpy.float32)).save(beyond)
        reason = "as their pixels are floats outside 0 to 1 (save them in 8 or 16 bits)"
        assert f"files left out, {reason}: 1 ({beyond})" in data().summary()

    def test_photographs_that_need_a_library_are_named_with_it(self, tmp_path, monkeypatch):
        write_shapes(tmp_path, 20)
        (tmp_path / "disc" / "a.HEIC").write_bytes(b"photograph")
        monkeypatch.setattr("vision.data.files.readable_endings", lambda: {".png"})
        assert f"as they need pip install pillow-heif: 1 ({tmp_path}/disc/a.HEIC)" in find_images(tmp_path).note()

    def test_a_share_of_each_class_is_set_aside_by_the_seed(self, tmp_path, data):
        write_shapes(tmp_path / "images", 100)
        one, same, other = (data(valid_fraction=0.2, seed=seed).splits for seed in (0, 0, 1))
        assert one.valid.labels.bincount().tolist() == [2] * 10
        assert torch.equal(one.valid.pixels, same.valid.pixels)
        assert not torch.equal(one.valid.pixels, other.valid.pixels)

    def test_a_class_with_one_image_keeps_it_for_training(self, tmp_path, data):
        write_shapes(tmp_path / "images", 40)
        (tmp_path / "images" / "rare").mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / "images" / "rare" / "a.png")
        splits = data(valid_fraction=0.5).splits
        rare = splits.classes.index("rare")
        assert (int((splits.train.labels == rare).sum()), int((splits.valid.labels == rare).sum())) == (1, 0)

    def test_folders_for_the_parts(self, tmp_path, data):
        for seed, (part, count) in enumerate({"train": 40, "valid": 20, "test": 10}.items()):
            write_shapes(tmp_path / "images" / part, count, seed)
        assert [len(part.labels) for part in data().splits[:3]] == [40, 20, 10]
        assert "40 training and 10 test images of 10 classes" in data(split="test").summary()
        (tmp_path / "images" / "valid" / "disc").rename(tmp_path / "images" / "valid" / "disk")
        with pytest.raises(UserError, match=r"disk/\d+.png: its class is not among those of training"):
            data().summary()

    @pytest.mark.parametrize("names", [("Train", "val"), ("training", "Validation"), ("train", "dev")], ids="-".join)
    def test_folders_for_the_parts_by_other_names(self, tmp_path, data, names):
        for seed, name in enumerate((*names, "more")):
            write_shapes(tmp_path / "images" / name, 40 - 20 * seed or 10, seed)
        made = data()
        assert made.summary().startswith("40 training and 20 validation images of 10 classes")
        left = tmp_path / "images" / "more"
        assert f"files left out, as they are beside the folder train: 1 ({left})" in made.summary()
        (left.rename(tmp_path / "images" / "valid"))
        with pytest.raises(UserError, match=f"images: has {names[1]} and valid; leave one of them"):
            data().summary()

    def test_how_many_of_16_bits_count_is_said_kept_and_taken_from_a_checkpoint(self, tmp_path, data):
        for number in range(20):
            path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numpy.full((8, 8), 16 * number, numpy.uint16)).save(path)
        made = data(valid_fraction=0.5)
        assert made.summary().endswith("of files with 16 bits, 10 count, as no value needs more")
        later = data(valid_fraction=0.5)
        later.as_in({**made.description(), "bits": 12})
        assert (made.splits.train.pixels.float().mean() / later.splits.train.pixels.float().mean()).round() == 4

    def test_too_few_to_set_some_aside(self, tmp_path, data):
        write_shapes(tmp_path / "images", 10)
        with pytest.raises(UserError, match="10 images are too few to set some aside"):
            data().summary()

    def test_no_test_part(self, tmp_path, data):
        write_shapes(tmp_path / "images", 100)
        with pytest.raises(UserError, match=r"data\.split=test: these data have no test part"):
            data(split="test").summary()


SHEETS = ROOT.parent / "shared" / "data" / "cifar10"  # of 1,000 images each, 40 to a row


@pytest.mark.skipif(not SHEETS.is_dir(), reason="CIFAR-10 is not there")
def test_images_of_cifar10_written_out_as_files_are_read_as_they_are(tmp_path, data):
    expected = {}
    for name in ("cat", "ship"):
        sheet = Image.open(SHEETS / f"test_{name}_0.webp").convert("RGB")
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(60):
            left, top = 32 * (number % 40), 32 * (number // 40)
            image = sheet.crop((left, top, left + 32, top + 32))
            image.save(tmp_path / "images" / name / f"{number}.png")
            expected[numpy.array(image).transpose(2, 0, 1).tobytes()] = name
    splits = data(size=32).splits
    found = [*zip(splits.train.pixels, splits.train.labels, strict=True)]
    found += [*zip(splits.valid.pixels, splits.valid.labels, strict=True)]
    assert len(found) == 120
    assert {pixels.numpy().tobytes(): splits.classes[label] for pixels, label in found} == expected


@pytest.mark.slow
def test_a_hundred_thousand_files(tmp_path, data):
    write_shapes(tmp_path / "drawn", 1000)
    drawn = find_images(tmp_path / "drawn")
    for copy in range(100):
        for file, label in zip(drawn.files, drawn.labels, strict=True):
            link = tmp_path / "images" / label / str(copy) / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(file)
    made = data(valid_fraction=0.01)
    assert "99,000 training and 1,000 validation images of 10 classes" in made.summary()
    whole = torch.cat([made.splits.train.pixels, made.splits.valid.pixels])
    assert len(whole.flatten(1).unique(dim=0)) == len({read_image(file, 16).numpy().tobytes() for file in drawn.files})


def test_every_share_leaves_an_image_of_each_class_in_training():
    labels = [0, 0, 0, 0, 1, 1]
    train, valid = set_aside(labels, 0.99, 0, "images", "more")
    assert [labels[number] for number in train] == [0, 1]
    assert [labels[number] for number in valid] == [0, 0, 0, 1]


def test_training_evaluation_and_classification_of_files(train, tmp_path):
    write_shapes(tmp_path / "images", 120)
    chosen = ["data=images", "data.path=images", "data.cache=cache", "data.size=20"]
    finished = train(
        "model=simple_net", *chosen, "trainer.max_epochs=1", "hydra.run.dir=run", "logger=none", "callbacks.curves=null"
    )
    assert finished.returncode == 0, finished.stderr
    assert "110 training and 10 validation images of 10 classes" in finished.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"
    assert (tmp_path / "run" / "confusion.png").stat().st_size > 1000
    plain, averaged = (train("task=evaluate", "ckpt=run", *more) for more in ([], ["tta=true"]))
    assert (plain.returncode, averaged.returncode) == (0, 0), averaged.stderr
    assert plain.stdout != averaged.stdout
    refused = train("model=gru", "tta=true")
    assert refused.returncode == 1
    assert "there is no tta; choose from: " in refused.stderr
    assert "learner=image_classifier has it" in refused.stderr
    assert "valid/images      10" in averaged.stdout
