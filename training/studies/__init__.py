"""Grids of trainings, their tables and plots."""
