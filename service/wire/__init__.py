"""Sans-IO decoders, a file a format: bytes in, events out; and the sending side of each."""
