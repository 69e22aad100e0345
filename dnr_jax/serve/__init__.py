"""A trained network as an HTTP service; needs the extra ``serve``."""
