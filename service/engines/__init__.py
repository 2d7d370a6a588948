"""Engines, a library a file."""
