"""URLs -> verified files in the cache."""
