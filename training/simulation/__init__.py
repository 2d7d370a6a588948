"""Frames made of a measured probe, random objects and the camera's noise."""
