"""A policy folder as one file: a tar.gz with a manifest of digests, and a signature over that."""
