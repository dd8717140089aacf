"""Files from HTTP servers."""
