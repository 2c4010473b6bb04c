"""The version of mkfa, alone so that every module may read it."""

VERSION = "0.1.0"
