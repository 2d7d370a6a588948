"""What came is what HDF5 reads: the detector's bytes as chunks, whatever the detector packed them with."""

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from service.messages import Image, PackedPixels, Positions, ScanStart
from service.recording.chunks import BITSHUFFLE, LZ4, packed_image
from service.recording.scan_writer import ScanWriter
from service.replay import ReplayPlan, messages
from service.sources import decoder_for
from service.wire.pixels import encode_pixels

DATA = "/entry_1/data_1/data"
RNG = np.random.default_rng(5)
NOTHING = {"expected": None, "received": 0, "stitched": 0, "duplicates": 0, "dropped": {}}


def pattern(dtype="<u2", shape=(24, 40)):
    return RNG.poisson(3, shape).astype(dtype)


def packed(counts, encoding):
    return PackedPixels(counts.shape, counts.dtype, encoding, encode_pixels(counts, encoding))


def written(path, frames):
    """Return the file of a scan whose frames came as they are given, open."""
    shape, dtype = frames[0].shape, frames[0].dtype
    writer = ScanWriter(path, ScanStart("s", shape, dtype, positions_m=np.zeros((1, 2))), frames[0], {})
    for index, pixels in enumerate(frames):
        writer.frame(index, pixels)
    writer.close(NOTHING, "end")
    return h5py.File(path)


def filters(data):
    made = data.id.get_create_plist()
    return [made.get_filter(place)[0] for place in range(made.get_nfilters())]


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4", "<f4"])
@pytest.mark.parametrize(
    ("encoding", "stored"), [("bslz4", [BITSHUFFLE]), ("hdf5-lz4", [LZ4]), ("lz4", [LZ4]), ("raw", [])]
)
def test_a_frame_is_read_by_hdf5_as_it_was_packed(tmp_path, encoding, stored, dtype):
    counts = [pattern(dtype) for _ in range(3)]
    with written(tmp_path / "s.cxi", [packed(frame, encoding) for frame in counts]) as file:
        assert filters(file[DATA]) == stored
        assert file[DATA].dtype == np.dtype(dtype)
        assert np.array_equal(file[DATA], counts)


@pytest.mark.parametrize("encoding", ["bslz4", "hdf5-lz4", "raw"])
def test_the_bytes_that_came_are_the_bytes_of_the_chunk(tmp_path, encoding):
    pixels = packed(pattern(), encoding)
    with written(tmp_path / "s.cxi", [pixels]) as file:
        assert file[DATA].id.read_direct_chunk((0, 0, 0)) == (0, pixels.blob)


def test_big_endian_pixels_stay_so_and_are_read_as_the_same_counts(tmp_path):
    counts = pattern(">u2")
    pixels = PackedPixels(counts.shape, counts.dtype, "raw", counts.tobytes())
    with written(tmp_path / "s.cxi", [pixels]) as file:
        assert file[DATA].dtype == ">u2"
        assert np.array_equal(file[DATA][0], counts)


@pytest.mark.parametrize("first", ["raw", "lz4", "bslz4"])
def test_frames_that_come_otherwise_than_the_first_are_stored_all_the_same(tmp_path, first):
    counts = [pattern() for _ in range(5)]
    frames = list(map(packed, counts, [first, "raw", "lz4", "hdf5-lz4", "bslz4"]))
    with written(tmp_path / "s.cxi", frames) as file:
        assert np.array_equal(file[DATA], counts)


def test_a_bare_block_that_did_not_shrink_is_not_taken_for_pixels(tmp_path):
    noise = RNG.integers(0, 1 << 16, (24, 40), dtype=np.uint16)
    pixels = packed(noise, "lz4")
    assert len(pixels.blob) >= noise.nbytes
    with written(tmp_path / "s.cxi", [pixels]) as file:
        assert np.array_equal(file[DATA][0], noise)


def test_frames_that_a_message_packs_as_one_are_stored_unpacked():
    counts = np.arange(96, dtype="<u2").reshape(8, 12)
    taken = packed_image(Image("s", 4, counts, 0)).pixels
    assert (taken.encoding, bytes(taken.blob)) == ("raw", counts.tobytes())


FORMATS = {
    ("native", "bslz4"): "bslz4",
    ("native", "lz4"): "lz4",
    ("dectris-v1", "bslz4"): "bslz4",
    ("dectris-v1", "lz4"): "lz4",
    ("dectris-v2", "bslz4"): "bslz4",
    ("dectris-v2", "lz4"): "hdf5-lz4",
    ("array-1.0", "raw"): "raw",
}


@pytest.mark.parametrize(("format_", "encoding"), FORMATS)
def test_every_format_hands_on_a_frame_as_it_came(tiny_file, format_, encoding):
    decoder = decoder_for(format_)
    plan = ReplayPlan("tiny", format=format_, encoding=encoding, frames=2)
    events = [event for sent in messages(tiny_file, plan) for event in decoder.decode(sent.parts, 0)]
    taken = [event for event in events if isinstance(event, Image)]
    assert {image.packed.encoding for image in taken} == {FORMATS[format_, encoding]}
    assert [encode_pixels(image.counts, image.packed.encoding) for image in taken] == [
        bytes(image.packed.blob) for image in taken
    ]


def test_positions_lie_by_frame_number_x_before_y(tmp_path):
    writer = ScanWriter(
        tmp_path / "s.cxi", ScanStart("s", (24, 40), np.dtype("<u2")), packed(pattern(), "raw"), {}
    )
    for index in (3, 1, 0):
        writer.frame(index, packed(pattern(), "raw"))
    for told in (
        Positions("s", 3, np.array([[3.0, 30.0]])),
        Positions("s", 0, np.array([[0.0, 0.5], [1.0, 10.0]])),
    ):
        writer.place(told.first, told.positions_m)
    assert writer.close(NOTHING, "end") == 0
    with h5py.File(tmp_path / "s.cxi") as file:
        xyz = file["/entry_1/data_1/translation"][()]
        assert np.array_equal(xyz[[0, 1, 3]], [[0.5, 0.0, 0.0], [10.0, 1.0, 0.0], [30.0, 3.0, 0.0]])
        assert np.isnan(xyz[2]).all()
        assert list(file["/entry_1/recording_1/frames"]) == [3, 1, 0]
