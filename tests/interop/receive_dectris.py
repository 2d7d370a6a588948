"""Receive one series with LiberTEM's own receiver and write it as NumPy writes arrays.

Run by the tests with the Python that it is installed for: ENDPOINT FRAMES FILE.
"""

import sys
import tempfile

import libertem_dectris
import numpy as np

PATIENCE_S = 60.0
MOST_AT_ONCE = 16
BYTES_A_FRAME = 1 << 18


def stacks(connection, client):
    """Yield (n, H, W) frames as they come, until the series is over."""
    while (handle := connection.get_next_stack(max_size=MOST_AT_ONCE)) is not None:
        shape = tuple(reversed(handle.get_shape()))
        frames = np.zeros((len(handle), *shape), handle.get_dtype_string())
        client.decompress_frame_stack(handle, out=frames)
        client.done(handle)
        yield frames


def main(endpoint, frames, path):
    with tempfile.TemporaryDirectory() as folder:
        connection = libertem_dectris.DectrisConnection(
            uri=endpoint, handle_path=f"{folder}/shared", frame_stack_size=MOST_AT_ONCE,
            bytes_per_frame=BYTES_A_FRAME, num_slots=32, huge=False,
        )  # fmt: skip
        connection.start_passive()
        print("listening", flush=True)
        if connection.wait_for_arm(PATIENCE_S) is None:
            sys.exit("nobody armed the detector")
        client = libertem_dectris.CamClient(connection.get_socket_path())
        received = np.concatenate(list(stacks(connection, client)))
        client.close()
        connection.close()
    assert len(received) == int(frames), f"{len(received)} of {frames} frames came"
    np.save(path, received)


main(*sys.argv[1:])
