"""A trained network as a page on which people try it; its wiring needs the extra ``app``, what it shows does not."""
