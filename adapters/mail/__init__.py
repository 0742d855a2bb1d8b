"""Ways out: one file per kind of server, all passing one contract suite."""
