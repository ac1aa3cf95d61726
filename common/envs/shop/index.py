"""Free-text search over a catalogue: BM25 by the bm25s library."""

from __future__ import annotations

from functools import lru_cache

import bm25s
import numpy as np

from common.envs.shop.products import Product, words

MAX_RESULTS = 50
"""WebShop shows at most 50 results."""
CACHED_QUERIES = 65_536

_STOP = frozenset("a an and are as at be but by for if in into is it no not of on or such that the their then there "
                  "these they this to was will with".split())  # fmt: skip
"""The usual short stop list of a Lucene English analyser."""


def terms(text: str) -> list[str]:
    """Search terms: words without stop words, plural s removed (a light stand-in for a stemmer)."""
    tokens = (word for word in words(text) if word not in _STOP)
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in tokens]


class Index:
    """Ranks products for a query. Pure: equal queries give equal results, ties go to the lower index."""

    def __init__(self, products: tuple[Product, ...]) -> None:
        # k1 and b are the defaults of the search library WebShop uses (Pyserini).
        self._bm25 = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
        self._bm25.index([terms(product.indexed) for product in products], show_progress=False)
        self._known = frozenset(self._bm25.vocab_dict)
        self.search = lru_cache(maxsize=CACHED_QUERIES)(self._search)

    def _search(self, query: str) -> tuple[int, ...]:
        """Indices of the at most 50 best products with a positive score, best first."""
        known = [term for term in terms(query) if term in self._known]
        if not known:
            return ()
        # Rounding makes ties of equal documents exact whatever the order of the float32 sums.
        scores = np.round(self._bm25.get_scores(known).astype(np.float64), 4)
        best = np.argsort(-scores, kind="stable")[:MAX_RESULTS]
        return tuple(best[scores[best] > 0].tolist())
