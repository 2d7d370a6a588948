"""The scan file formats, a file each; `model.scans.open_scan` tells them apart."""
