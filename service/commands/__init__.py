"""The commands of the service, a file each."""
