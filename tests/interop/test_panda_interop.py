"""The PandA's own client beside ours: it reads what our simulator sends, and both see the same."""

import random
import threading
from contextlib import closing

import numpy as np
import pytest

from service.messages import Notice, Positions
from service.tcp_outlet import TcpOutlet
from service.wire.encoder_samples import EncoderFields
from service.wire.panda import PandaDecoder
from service.wire.position_senders import POSITION_SENDERS, PositionsSending

connections = pytest.importorskip("pandablocks.connections", reason="pandablocks is not installed")
responses = pytest.importorskip("pandablocks.responses", reason="pandablocks is not installed")

FRAMES = 50
POSITIONS_M = np.random.default_rng(5).normal(scale=1e-6, size=(FRAMES, 2))
PATIENCE_S = 10.0
# A capture as a PandA sends it: bits without a unit between averages, and a time stamp.
FOREIGN = (
    b'OK\n<header>\n<data missed="0" process="Scaled" format="Framed" sample_bytes="28" '
    b'arm_time="2025-02-28T18:44:22.905865051Z" start_time="2025-02-28T18:44:22.905908989Z" />\n<fields>\n'
    b'<field name="PCAP.BITS2" type="uint32" capture="Value" />\n'
    b'<field name="INENC1.VAL" type="double" capture="Mean" scale="1e-05" offset="2" units="mm" />\n'
    b'<field name="INENC1.VAL" type="double" capture="Max" scale="1e-05" offset="2" units="mm" />\n'
    b'<field name="PCAP.TS_START" type="double" capture="Value" scale="8e-09" offset="0" units="s" />\n'
    b"</fields>\n</header>\n\n"
)


def sent(samples):
    sender = POSITION_SENDERS["panda"](PositionsSending("s", FRAMES, samples))
    packets = [sender.positions(n, POSITIONS_M[n : n + 8]) for n in range(0, FRAMES, 8)]
    return [*sender.start(), *packets, sender.end()]


def theirs(stream):
    """Return what the PandA's own client sees: header, records, end."""
    client = connections.DataConnection()
    client.connect(scaled=True)
    seen = list(client.receive_bytes(stream))
    (start,) = (one for one in seen if isinstance(one, responses.StartData))
    (end,) = (one for one in seen if isinstance(one, responses.EndData))
    return start, np.concatenate([one.data for one in seen if isinstance(one, responses.FrameData)]), end


@pytest.mark.parametrize("samples", [1, 5])
def test_their_client_reads_what_our_simulator_sends(samples):
    start, records, end = theirs(b"OK\n" + b"".join(part for parts in sent(samples) for part in parts))
    capture = "Mean" if samples == 1 else "Value"
    assert [(field.name, field.capture, field.units) for field in start.fields] == [
        ("COUNTER1.OUT", "Value", ""),
        ("INENC1.VAL", capture, "um"),
        ("INENC2.VAL", capture, "um"),
    ]
    assert (start.missed, start.process, start.format) == (0, "Scaled", "Framed")
    assert (end.samples, end.reason) == (FRAMES * samples, responses.EndReason.OK)
    for column, axis in (("INENC1.VAL", 0), ("INENC2.VAL", 1)):
        means_um = records[f"{column}.{capture}"].reshape(FRAMES, samples).mean(axis=1)
        assert np.allclose(means_um * 1e-6, POSITIONS_M[:, axis], rtol=0, atol=1e-15)
    assert np.array_equal(records["COUNTER1.OUT.Value"], np.repeat(np.arange(FRAMES) + 1, samples))


def test_both_see_the_same_samples_in_a_stream_of_neither():
    dice = np.random.default_rng(6)
    record = np.dtype([("bits", "<u4"), ("mean", "<f8"), ("max", "<f8"), ("time", "<f8")])
    records = np.frombuffer(dice.integers(0, 255, 30 * record.itemsize, np.uint8).tobytes(), record).copy()
    records["mean"], records["time"] = dice.normal(size=30), dice.normal(size=30)
    blocks = [records[n : n + 7].tobytes() for n in range(0, 30, 7)]
    body = b"".join(b"BIN " + (len(block) + 8).to_bytes(4, "little") + block for block in blocks)
    stream = FOREIGN + body + b"END 30 Disarmed\n"
    _, theirs_seen, end = theirs(stream)
    ours = PandaDecoder(EncoderFields(y="INENC1.VAL", x="PCAP.TS_START", x_unit_m=1.0))
    ours.hello()
    events = ours.feed(stream)
    positions_m = np.concatenate([event.positions_m for event in events if isinstance(event, Positions)])
    assert np.array_equal(positions_m[:, 0], theirs_seen["INENC1.VAL.Mean"] * 1e-3)
    assert np.array_equal(positions_m[:, 1], theirs_seen["PCAP.TS_START.Value"])
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert end.reason.value in notice.line


def test_their_client_is_served_over_tcp_by_our_simulator():
    blocking = pytest.importorskip("pandablocks.blocking")
    dice = random.Random()
    host = f"127.{dice.randrange(1, 255)}.{dice.randrange(256)}.1"  # of our own: their port is a fixed one
    up = threading.Event()

    def play():
        stop = threading.Event()
        with TcpOutlet(f"panda://{host}", allow_remote=False, stop=stop, stall_s=PATIENCE_S) as outlet:
            up.set()
            assert all(outlet.send(parts) for parts in sent(5))

    player = threading.Thread(target=play)
    player.start()
    assert up.wait(PATIENCE_S)
    seen = []
    with closing(blocking.BlockingClient(host).data(frame_timeout=PATIENCE_S)) as stream:
        for one in stream:
            seen.append(one)
            if isinstance(one, responses.EndData):
                break
    player.join(PATIENCE_S)
    assert isinstance(seen[0], responses.ReadyData)
    samples = np.concatenate([one.data for one in seen if isinstance(one, responses.FrameData)])
    assert len(samples) == seen[-1].samples == FRAMES * 5
