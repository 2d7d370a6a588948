"""Scans as they come, written to scan files: the detector's own bytes, and where each belongs."""
