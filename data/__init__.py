"""Bundled banks and tables; `index.json` lists each with origin, licence, digest and how it was made."""
