"""The command line: parse, call mkfa, print."""
