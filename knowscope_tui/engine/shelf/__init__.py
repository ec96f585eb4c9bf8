"""Where dictionaries come from: folders, published releases, and the cache of converted copies."""
