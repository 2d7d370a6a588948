"""Prints what silx view, h5web (by its server's library, h5grove) and napari show of a result file.

Run by the environment that `make peers` makes for readers.
"""

import json
import sys

import h5py
import silx.io
from h5grove.content import create_content
from h5grove.encoders import encode
from napari.components import ViewerModel
from silx.io import nxdata


def by_silx(path: str) -> dict[str, object]:
    """What `silx view` plots when the file is opened."""
    with silx.io.open(path) as file:
        shown = nxdata.get_default(file)
        return {
            "shape": list(shown.signal.shape),
            "signal": shown.signal_name,
            "axes": shown.axes_names,
            "title": shown.title,
        }


def by_h5web(path: str) -> dict[str, object]:
    """What h5web is told by its server when it follows the default."""
    with h5py.File(path) as file:
        entry = create_content(file, "/entry")
        default = create_content(file, f"/entry/{entry.attributes()['default']}")
        signal = default.attributes()["signal"]
        values = create_content(file, f"{default.path}/{signal}")
        return {
            "nx_class": default.attributes()["NX_class"],
            "title": entry.attributes()["title"],
            "shape": list(values.metadata()["shape"]),
            "greatest": float(values.data().max()),
            "sent_bytes": int(encode(values.data(dtype="safe"), "bin").headers["Content-Length"]),
        }


def by_napari(path: str) -> dict[str, object]:
    """What napari shows of the phase, with pixels of their size."""
    with h5py.File(path) as file:
        phase = file["entry/phase"]
        pixels_nm = [1e9 * float(phase[axis][1] - phase[axis][0]) for axis in "yx"]
        layer = ViewerModel().add_image(phase["data"], scale=pixels_nm, name="phase")
        return {"shape": list(layer.data.shape), "pixels_nm": layer.scale.tolist()}


readers = {"silx": by_silx, "h5web": by_h5web, "napari": by_napari}
print(json.dumps({name: shown(sys.argv[1]) for name, shown in readers.items()}))
