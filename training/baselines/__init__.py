"""Published networks that ours are measured against, built again from their papers and released code."""
