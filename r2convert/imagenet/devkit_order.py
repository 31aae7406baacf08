"""The order in which the development kit of ILSVRC 2012 counts the classes, its ``ILSVRC2012_ID``.

``data/devkit.txt.gz``: line ``n`` is the WordNet id of class ``n`` (from 1) in the kit's ``meta.mat``. It is not the
order of the sorted WordNet ids, in which every published network counts.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib import resources

from r2convert.imagenet.labels import class_index_by_synset


@cache
def devkit_order() -> tuple[int, ...]:
    """The class index of each ``ILSVRC2012_ID``; position 0 is the class that the kit calls 1."""
    packed = (resources.files("r2convert.imagenet") / "data" / "devkit.txt.gz").read_bytes()
    index_of = class_index_by_synset()
    return tuple(index_of[synset] for synset in gzip.decompress(packed).decode("ascii").split())
