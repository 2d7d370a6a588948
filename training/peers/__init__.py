"""Published networks and a naive script, for the service's benchmark to be held against."""
