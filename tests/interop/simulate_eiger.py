"""Run Diamond's Eiger simulator, with what `tickit` takes as arguments.

As shipped, its sockets do not only listen but also connect to themselves, and may deal part of the frames to
nobody; here they listen. Run by the tests with the Python that it is installed for.
"""

import aiozmq
import zmq
from tickit.adapters.io import ZeroMqPushIo
from tickit.cli import main


async def listening(host, port):
    """Return the stream of a socket that the detector's clients connect to."""
    return await aiozmq.create_zmq_stream(zmq.PUSH, bind=f"tcp://{host}:{port}")


*address, _ = ZeroMqPushIo.__init__.__defaults__
ZeroMqPushIo.__init__.__defaults__ = (*address, listening)
main()
