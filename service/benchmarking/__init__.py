"""`ptycholive bench`: how fast the service is, beside its peers and beside what the machine allows."""
