"""Labelled sets by name, and those that lie in files."""

from __future__ import annotations

from pathlib import Path

from model.scans import ScanFileError, open_scan
from training.datasets.labelled import LabelledSet
from training.datasets.loaders import labelled_from_scan, load_ptychonn
from training.datasets.usaf import UsafRecipe, usaf_set

SETS: dict[str, UsafRecipe] = {
    "usaf": UsafRecipe(),
    "usaf-noisy": UsafRecipe(noisy=True),
    "usaf-wrapping": UsafRecipe(turns=3.0),
    "usaf-wrapping-gauge": UsafRecipe(turns=3.0, own_gauge=True),
    "usaf-tiny": UsafRecipe(lines=16),
    "usaf-tiny-noisy": UsafRecipe(lines=16, noisy=True),
    "usaf-tiny-wrapping": UsafRecipe(lines=16, turns=3.0),
    "usaf-tiny-wrapping-gauge": UsafRecipe(lines=16, turns=3.0, own_gauge=True),
}
PTYCHONN_LABELS = "*amp_pha*.npy"  # what PtychoNN's published labels are called, beside the frames' .npz


def open_set(name: str) -> LabelledSet:
    """Make the set of a name, or read a file: a scan with its reference, or PtychoNN's npz/npy pair.

    Raises:
        ScanFileError: there is no such set, or the file cannot be used.
    """
    if name in SETS:
        return usaf_set(name, SETS[name])
    path = Path(name)
    if not path.exists():
        raise ScanFileError(f"{name}: neither a file nor one of the sets {', '.join(SETS)}")
    if path.suffix == ".npz":
        return load_ptychonn(path, _labels_beside(path))
    with open_scan(path) as scan:
        return labelled_from_scan(scan)


def _labels_beside(frames: Path) -> Path:
    found = sorted(frames.parent.glob(PTYCHONN_LABELS))
    if len(found) != 1:
        raise ScanFileError(f"{frames}: {len(found)} files {PTYCHONN_LABELS} beside it, one is needed")
    return found[0]
