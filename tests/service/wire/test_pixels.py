"""Pixel payloads: what comes back, and what is refused before memory is taken.

Every test runs with the compiled decompressor, where it is installed, and without.
"""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.errors import ConfigError, PixelError
from service.wire import pixels
from service.wire.pixels import ENCODINGS, PIXEL_DTYPES, Limits, decode_pixels, encode_pixels

HEAD = struct.Struct(">QI")
STACK = np.random.default_rng(3).poisson(2, (3, 16, 24)).astype("<u2")
FRAMED = ("hdf5-lz4", "bslz4")


@pytest.fixture(scope="module", autouse=True, params=["dectris-compression", "NumPy"])
def unpacked_by(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "NumPy":
            patch.setattr(pixels, "compiled_decompress", lambda: None)
        else:
            pytest.importorskip("dectris.compression", reason="the extra `fast` is not installed")
        yield request.param


def test_the_operator_is_told_what_unpacks_the_pixels(unpacked_by):
    assert pixels.decompressor() == unpacked_by


@settings(deadline=None)
@given(
    frames=st.sampled_from(PIXEL_DTYPES).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=3, max_dims=3, max_side=40))
    ),
    encoding=st.sampled_from(ENCODINGS),
)
def test_pixels_of_every_type_survive_every_encoding(frames, encoding):
    blob = encode_pixels(frames, encoding)
    back = decode_pixels(blob, frames.shape[1:], frames.dtype, encoding, count=len(frames))
    assert back.dtype == frames.dtype
    assert back.tobytes() == frames.tobytes()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", [">u2", ">u4"])
def test_big_endian_pixels_come_out_little_endian_with_the_same_counts(encoding, dtype):
    frame = np.arange(96).reshape(8, 12)
    blob = encode_pixels(frame.astype(dtype).view(dtype.replace(">", "<")), encoding)
    back = decode_pixels(blob, (8, 12), np.dtype(dtype), encoding)
    assert back.dtype == np.dtype(dtype.replace(">", "<"))
    assert np.array_equal(back[0], frame)


def test_a_frame_of_detector_size_survives_bitshuffle_over_many_blocks():
    frame = np.random.default_rng(0).poisson(3, (1, 514, 1030)).astype("<u4")
    blob = encode_pixels(frame, "bslz4")
    assert len(blob) < frame.nbytes / 4
    assert np.array_equal(decode_pixels(blob, (514, 1030), frame.dtype, "bslz4"), frame)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_decoded_pixels_cannot_be_written_to(encoding):
    back = decode_pixels(encode_pixels(STACK, encoding), (16, 24), STACK.dtype, encoding, count=3)
    assert not back.flags.writeable


@pytest.mark.parametrize("encoding", FRAMED)
@pytest.mark.parametrize("size", [2**40, 2**63, 0, STACK.nbytes - 1])
def test_a_forged_size_is_refused_before_memory_is_taken(encoding, size):
    blob = encode_pixels(STACK, encoding)
    tracemalloc.start()
    with pytest.raises(PixelError, match="do shape and dtype match"):
        decode_pixels(HEAD.pack(size, 8192) + blob[12:], (16, 24), STACK.dtype, encoding, count=3)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize("block", [0, 7, 8192 + 1, 2**31, 2**32 - 8])
def test_a_forged_bitshuffle_block_size_is_refused(block):
    blob = encode_pixels(STACK, "bslz4")
    with pytest.raises(PixelError, match="block"):
        decode_pixels(HEAD.pack(STACK.nbytes, block) + blob[12:], (16, 24), STACK.dtype, "bslz4", count=3)


@pytest.mark.parametrize("encoding", FRAMED)
def test_a_forged_block_length_is_refused_before_memory_is_taken(encoding):
    blob = encode_pixels(STACK, encoding)
    tracemalloc.start()
    with pytest.raises(PixelError):
        decode_pixels(blob[:12] + b"\xff" * 4 + blob[16:], (16, 24), STACK.dtype, encoding, count=3)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_few_bytes_that_claim_many_pixels_are_refused():
    with pytest.raises(PixelError, match="cannot hold"):
        decode_pixels(HEAD.pack(2 * 4096 * 4096, 8192) + b"\0" * 64, (4096, 4096), np.dtype("<u2"), "bslz4")
    with pytest.raises(PixelError, match="cannot hold"):
        decode_pixels(b"\0" * 64, (4096, 4096), np.dtype("<u2"), "lz4")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_payload_for_another_element_size_is_refused(encoding):
    blob = encode_pixels(STACK, encoding)
    with pytest.raises(PixelError):
        decode_pixels(blob, (16, 24), np.dtype("<u4"), encoding, count=3)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("cut", [0, 1, 11, 12, 40, -1])
def test_a_payload_cut_short_is_refused(encoding, cut):
    with pytest.raises(PixelError):
        decode_pixels(encode_pixels(STACK, encoding)[:cut], (16, 24), STACK.dtype, encoding, count=3)


@pytest.mark.parametrize("extra", [1, 1000])
def test_a_raw_payload_that_is_too_long_is_refused(extra):
    with pytest.raises(PixelError, match="do shape and dtype match"):
        decode_pixels(STACK.tobytes() + b"\0" * extra, (16, 24), STACK.dtype, "raw", count=3)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((0, 4), 1),
        ((-1, -4), 1),
        ((2**40, 2**40), 1),
        ((2**63, 2), 1),
        ((4, 4), 0),
        ((4, 4), 10**9),
        ((4, 4), -1),
    ],
)
def test_impossible_shapes_and_counts_are_refused(shape, count):
    with pytest.raises(PixelError):
        decode_pixels(b"", shape, np.dtype("<u1"), "raw", count=count)


def test_a_stack_above_the_message_limit_is_refused_even_if_each_frame_is_small():
    limits = Limits(max_message_bytes=STACK.nbytes - 1)
    with pytest.raises(PixelError, match="send fewer"):
        decode_pixels(STACK.tobytes(), (16, 24), STACK.dtype, "raw", count=3, limits=limits)


@pytest.mark.parametrize("dtype", ["<u8", "<i2", "<f8", "<c8", "O"])
def test_other_pixel_types_are_refused(dtype):
    with pytest.raises(PixelError, match="uint16"):
        decode_pixels(b"", (4, 4), np.dtype(dtype), "raw")


def test_unknown_encodings_are_told_to_whoever_chose_them():
    with pytest.raises(PixelError, match="bslz4"):
        decode_pixels(b"", (4, 4), np.dtype("<u2"), "zip")
    with pytest.raises(ConfigError, match="bslz4"):
        encode_pixels(STACK, "zip")
