"""Scans that outlive the service: what is kept of the running one, and how the next goes on with it."""
