"""Reports that come back by mail: read from raw messages of any shape into findings, one per recipient."""
