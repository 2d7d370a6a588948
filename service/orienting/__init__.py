"""Which orientation of the frames and which axes of the positions explain a stream best."""
