"""Another client that pulls from the same detector gets every other frame; it is told while the scan runs."""

import numpy as np
import zmq
from waiting import until

from service.messages import Image, ScanStart
from service.wire import dectris_v2
from service.wire.dectris_v2 import SentSeries

FRAMES = 600
BLANK = np.zeros((32, 32), "<u2")
SERIES = SentSeries(ScanStart("dealt", BLANK.shape, BLANK.dtype), 1)


def test_frames_that_a_second_client_pulls_are_told_while_the_scan_runs(serve, tmp_path):
    endpoint = f"ipc://{tmp_path}/detector"
    with zmq.Context() as context, context.socket(zmq.PUSH) as detector, context.socket(zmq.PULL) as other:
        for socket in (detector, other):
            socket.set(zmq.LINGER, 0)
        detector.bind(endpoint)
        other.connect(endpoint)
        detector.send(b"for the first to come")
        assert other.recv() == b"for the first to come"
        running = serve(images=endpoint, images_bind=False, images_format="dectris-v2")
        until(lambda: "nothing was sent" in running.app.intakes[0].source.silence().why)
        for index in range(FRAMES):
            detector.send_multipart(dectris_v2.encode_image(SERIES, index, BLANK, "lz4"))
        line = "every 2nd frame is missing: is another client connected to the detector?"
        until(lambda: line in running.get("/api/status")["warnings"])
        assert running.get("/api/status")["current_scan"] == "dealt"
        assert other.poll(1000)


def test_a_steady_scan_in_which_frames_overtake_each_other_has_no_second_client(journey):
    pairs = [(n + 1, n) for n in range(0, FRAMES, 2)]
    events = [ScanStart("steady", BLANK.shape, BLANK.dtype)]
    events += [Image("steady", index, BLANK, 0) for pair in pairs for index in pair]
    assert "stride" not in journey().take(events).wait(2).run.warnings
