"""Who may take part in the streams: keys, and what a socket tells of those who came."""
