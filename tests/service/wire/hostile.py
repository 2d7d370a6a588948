"""What a peer may send by mistake or malice, and what a decoder may make of it.

Test modules run this file: pytest imports them one by one, from no package.
"""

import gc
import time
import tracemalloc
from contextlib import contextmanager

from hypothesis import strategies as st

from service.errors import StreamError
from service.messages import Image, Notice, Positions, PositionsArmed, Rejected, ScanEnd, ScanStart

EVENTS = ScanStart | Image | Rejected | ScanEnd | Positions | PositionsArmed | Notice
MOST_CPU_S = 1.0
LONGEST_LINE = 1000
EXTREMES = st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 4, b"\x80", b"[" * 50])
JSON_NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def decoded(decode, *message):
    """Return the events of a message, or the line with which it was refused; anything else is raised on."""
    refusal, events = None, []
    try:
        events = decode(*message)
    except StreamError as error:
        refusal = str(error)
    assert all(isinstance(event, EVENTS) for event in events)
    lines = [event.detail for event in events if isinstance(event, Rejected)]
    assert all(0 < len(line) < LONGEST_LINE for line in [*lines, *([] if refusal is None else [refusal])])
    return events if refusal is None else refusal


@contextmanager
def bounded(most_bytes):
    """See that what is done takes little memory and not a second of work."""
    gc.freeze()  # what other tests left is not this work's to be looked through
    began_s = time.thread_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
        assert time.thread_time() - began_s < MOST_CPU_S
    finally:
        gc.unfreeze()
        tracemalloc.stop()


@st.composite
def damaged_bytes(draw, whole):
    """Bytes in which a few places were overwritten, left out, doubled or filled with extremes."""
    hurt = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(hurt))), draw(st.integers(0, 12))
        put = draw(
            st.one_of(
                st.binary(min_size=length, max_size=length),
                EXTREMES,
                st.just(b""),
                st.just(bytes(hurt[at : at + length]) * 2),
            )
        )
        hurt[at : at + draw(st.sampled_from([len(put), length, 0]))] = put
    return bytes(hurt[: draw(st.one_of(st.just(len(hurt)), st.integers(0, len(hurt))))])


@st.composite
def damaged_message(draw, valid):
    """One of the valid messages, a part of it damaged, lost, doubled or put elsewhere."""
    parts = list(draw(st.sampled_from(valid)))
    at = draw(st.integers(0, len(parts) - 1))
    match draw(st.sampled_from(["damage", "damage", "damage", "lose", "double", "move", "none"])):
        case "damage":
            parts[at] = draw(damaged_bytes(parts[at]))
        case "lose":
            del parts[at]
        case "double":
            parts.insert(at, parts[at])
        case "move":
            parts.append(parts.pop(at))
    return parts


def hostile_messages(valid):
    """A few messages in a row: damaged ones, valid ones, and bytes of no format at all."""
    anything = st.lists(st.binary(max_size=120), max_size=4)
    return st.lists(damaged_message(valid) | anything | st.sampled_from(valid), min_size=1, max_size=5)
