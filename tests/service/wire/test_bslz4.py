"""Blocks of the HDF5 filters against the compiled packages that others read and write them with."""

import gzip
import struct
import sys
from pathlib import Path

import cbor2
import lz4.block
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import PixelError
from service.wire import pixels
from service.wire.bslz4 import compress_bslz4, compress_lz4, decompress_bslz4, decompress_lz4

DATA = Path(__file__).parents[2] / "data"
DTYPES = ("u1", "<u2", "<u4", "<f4")
SIZES = (1, 7, 8, 9, 1000, 4096, 70_001)  # pixels: too few for a block, leftovers, many blocks
BLOCKS = (64, 2048, 65_536)  # pixels


@pytest.fixture(scope="module")
def bitshuffle():
    return pytest.importorskip("bitshuffle", reason="bitshuffle is not installed: it may need a compiler")


@pytest.fixture(scope="module")
def dectris():
    return pytest.importorskip("dectris.compression", reason="the extra `fast` is not installed")


@pytest.fixture
def chosen_anew():
    pixels.compiled_decompress.cache_clear()
    yield
    pixels.compiled_decompress.cache_clear()


def counts(size, dtype):
    """Photons of a diffraction pattern: mostly few, some pixels at the type's limit."""
    dice = np.random.default_rng(size)
    kind = np.dtype(dtype)
    frame = dice.poisson(3, size).astype(kind)
    frame[::97] = np.iinfo(kind).max if kind.kind == "u" else -1.5e30
    return frame


def recorded(message):
    """Return the dtype and payload of the one image that a recorded message holds."""
    (array,) = message["data"].values()
    _, element_bytes, blob = array.value[1].value.value
    return np.dtype(f"<u{element_bytes}"), blob


def eiger_1m():
    parts = cbor2.loads(gzip.decompress((DATA / "stream2_eiger1M_maxiv.cbor.gz").read_bytes()))[1]
    return recorded(cbor2.loads(parts[0]))


def eiger_16m():
    return recorded(cbor2.loads((DATA / "tickit_stream2_image.cbor").read_bytes()[3:]))  # without tag 55799


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_survive_bitshuffle_in_blocks_of_every_size(dtype, size, block):
    frame = counts(size, dtype)
    blocks = compress_bslz4(frame, block * frame.itemsize)
    plain = decompress_bslz4(memoryview(blocks), frame.nbytes, frame.itemsize, block * frame.itemsize)
    assert bytes(plain) == frame.tobytes()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_bitshuffle_writes_is_read(bitshuffle, dtype, size, block):
    frame = counts(size, dtype)
    blob = memoryview(bitshuffle.compress_lz4(frame, block).tobytes())
    assert (
        bytes(decompress_bslz4(blob, frame.nbytes, frame.itemsize, block * frame.itemsize)) == frame.tobytes()
    )


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_bitshuffle_reads(bitshuffle, dtype, size, block):
    frame = counts(size, dtype)
    blob = np.frombuffer(compress_bslz4(frame, block * frame.itemsize), np.uint8)
    back = bitshuffle.decompress_lz4(blob, frame.shape, frame.dtype, block)
    assert back.tobytes() == frame.tobytes()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_the_detector_makers_package_reads(dectris, dtype, size, block):
    frame = counts(size, dtype)
    block_bytes = block * frame.itemsize
    head = struct.pack(">QI", frame.nbytes, block_bytes)
    shuffled = head + compress_bslz4(frame, block_bytes)
    assert dectris.decompress(shuffled, "bslz4", elem_size=frame.itemsize) == frame.tobytes()
    assert dectris.decompress(head + compress_lz4(frame.tobytes(), block_bytes), "lz4") == frame.tobytes()


@pytest.mark.parametrize("recording", [eiger_1m, eiger_16m])
def test_a_recorded_eiger_image_is_the_same_from_both_decompressors(dectris, recording):
    dtype, blob = recording()
    size, block = struct.unpack_from(">QI", blob)
    plain = decompress_bslz4(memoryview(blob)[12:], size, dtype.itemsize, block)
    assert plain == memoryview(dectris.decompress(blob, "bslz4", elem_size=dtype.itemsize)).cast("B").cast(
        dtype.char
    )


def test_the_recorded_eiger_1m_image_is_dark_but_for_the_mask():
    dtype, blob = eiger_1m()
    size, block = struct.unpack_from(">QI", blob)
    image = np.frombuffer(decompress_bslz4(memoryview(blob)[12:], size, dtype.itemsize, block), dtype)
    assert image.size == 1065 * 1030
    assert np.median(image) == 0


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("block", [8, 64, 999, 2**30])
def test_bytes_survive_lz4_blocks_that_shrink_and_that_do_not(size, block):
    dice = np.random.default_rng(5)
    for plain in (bytes(size), dice.bytes(size)):
        assert decompress_lz4(memoryview(compress_lz4(plain, block)), size, block) == plain


def test_a_block_that_lz4_leaves_as_long_as_it_was_is_kept_as_it_is():
    patterns = (bytes(zeros) + bytes(range(1, 60)) for zeros in range(40))
    plain = next(
        plain for plain in patterns if len(lz4.block.compress(plain, store_size=False)) == len(plain)
    )
    assert decompress_lz4(memoryview(compress_lz4(plain, 128)), len(plain), 128) == plain


@settings(deadline=None)
@given(data=st.data(), itemsize=st.sampled_from([1, 2, 4]))
def test_damaged_blocks_give_as_many_bytes_as_were_asked_for_or_an_error(data, itemsize):
    frame = counts(3 * 64 + 21, f"<u{itemsize}")
    block_bytes = 64 * itemsize
    blob = bytearray(compress_bslz4(frame, block_bytes))
    for _ in range(data.draw(st.integers(0, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = memoryview(blob)[: data.draw(st.integers(0, len(blob)))]
    for decompress in (
        lambda: decompress_bslz4(cut, frame.nbytes, itemsize, block_bytes),
        lambda: decompress_lz4(cut, frame.nbytes, block_bytes),
    ):
        try:
            plain = decompress()
        except PixelError:
            continue
        assert memoryview(plain).nbytes == frame.nbytes


@pytest.mark.parametrize("size", [64, 64 + 5])
def test_every_cut_is_noticed(size):
    frame = counts(size, "<u2")
    blob = memoryview(compress_bslz4(frame, 128))
    for end in range(len(blob)):
        with pytest.raises(PixelError, match=r"cut short|damaged"):
            decompress_bslz4(blob[:end], frame.nbytes, 2, 128)


@pytest.mark.usefixtures("chosen_anew")
def test_the_compiled_package_unpacks_where_it_is_installed(dectris):
    assert pixels.compiled_decompress() is dectris.decompress
    assert pixels.decompressor() == "dectris-compression"


@pytest.mark.usefixtures("chosen_anew")
def test_numpy_unpacks_where_the_compiled_package_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "dectris.compression", None)
    assert pixels.compiled_decompress() is None
    assert pixels.decompressor() == "NumPy"
