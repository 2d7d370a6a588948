"""Shows a running service's phase in napari; prints the size of what the layer shows, of each scan in turn.

Run by the environment that `make peers` makes for readers: `watch_in_napari.py URL`, with the names of the
scans on standard input, a line each.
"""

import sys
import time

from napari.components import ViewerModel

from service.client import Live

with Live(sys.argv[1]) as live:
    layer = ViewerModel().add_image(live.phase)
    for line in sys.stdin:
        while live.scan != line.strip() or not live.report.get("finished"):  # told at the viewers' pace
            time.sleep(0.05)
        layer.refresh()
        print(*layer.data.shape, flush=True)
