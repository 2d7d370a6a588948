"""Messages of DECTRIS Stream V1: of our own sender, and changed ones.

Test modules run this file: pytest imports them one by one, from no package.
"""

import json

import numpy as np

from service.messages import ScanStart
from service.wire import dectris_v1
from service.wire.dectris_v1 import DectrisV1Decoder, SentSeries

SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, SHAPE).astype("<u2")
MASK = np.zeros(SHAPE, bool)
MASK[3, 4:7] = True
POSITIONS = np.random.default_rng(2).normal(scale=1e-6, size=(5, 2))
START = ScanStart(
    "star",
    SHAPE,
    np.dtype("<u2"),
    frames=5,
    wavelength_m=1.4e-10,
    distance_m=2.0,
    detector_pixel_m=75e-6,
    object_pixel_m=3e-8,
    saturation=4095.0,
    mask=MASK,
    positions_m=POSITIONS,
)
SERIES = SentSeries(START, number=16)
HEADER = dectris_v1.encode_header(SERIES)
IMAGE = dectris_v1.encode_image(SERIES, 3, COUNTS, "bslz4")
END = dectris_v1.encode_end(SERIES)


def started(**options):
    decoder = DectrisV1Decoder(**options)
    decoder.decode(HEADER, 0)
    return decoder


def part(**fields):
    return json.dumps(fields).encode()


def header(detail="basic", series=16, **changes):
    """Return a header of our sender, its configuration changed; None takes a key out of it."""
    told = json.loads(HEADER[1]) | changes
    configuration = {key: value for key, value in told.items() if value is not None}
    head = part(htype="dheader-1.0", series=series, header_detail=detail)
    return [head] if detail == "none" else [head, part(**configuration)]


RAW = COUNTS.tobytes()


def image(blob=RAW, series=16, frame=3, **changes):
    """Return an image of raw pixels, the head of its array changed."""
    told = {"htype": "dimage_d-1.0", "shape": [16, 12], "type": "uint16", "encoding": "<", "size": len(blob)}
    head = part(htype="dimage-1.0", series=series, frame=frame, hash="none")
    return [head, part(**told | changes), blob, part(htype="dconfig-1.0", real_time=1)]
