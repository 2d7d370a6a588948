"""What is noticed of senders that go away."""

import time

import pytest
import zmq

from service.intake import Intake
from service.messages import ScanEnd
from service.sources import Source
from service.wire import native
from service.wire.native import NativeDecoder
from service.wire.pixels import Limits

END = native.encode_end(ScanEnd("s", 1))
PATIENCE_S = 20.0


@pytest.fixture
def intake():
    with Source(
        "tcp://127.0.0.1:*", NativeDecoder(), bind=True, limits=Limits(max_message_bytes=1000)
    ) as source:
        yield Intake("images", source, "native")


def visit(intake, message):
    """Let a sender come, send a message and go; return whether the operator should know."""
    gone = intake.source.lost_peers()
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.set(zmq.LINGER, 5000)
        socket.connect(intake.source.endpoint)
        socket.send_multipart(message)
        received = intake.source.receive(PATIENCE_S if message == END else 0)
    if received is not None:
        intake.count(received, 0.0)
    deadline_s = time.monotonic() + PATIENCE_S
    while intake.source.lost_peers() == gone:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return intake.notice_losses()


def test_a_sender_that_goes_between_scans_is_no_matter(intake):
    assert not visit(intake, END)
    assert not visit(intake, END)


def test_a_sender_that_goes_in_the_middle_of_a_scan_is_told(intake):
    intake.in_scan = True
    assert visit(intake, END)


def test_senders_that_are_cut_off_again_and_again_for_their_first_message_are_told(intake):
    assert [visit(intake, [bytes(5000)]) for _ in range(3)][-1]
    assert not visit(intake, END)
