"""Contextual Document Embeddings (Morris and Rush 2024, arXiv 2410.02525).

A text's vector also knows which corpus it stands in. `CDE` is the published two-stage model,
written natively for transformers 5; `load_mini_cde()` gives the small model that ships with this
project, `load_cde()` the one of the chosen source. Both offer `embed_context`, `encode_queries`
and `encode_documents`; `similarity` compares their vectors. `encode_corpus` encodes a corpus of
any size with either, on Ray. `shared_text` says, before any question is asked, how much of their
text the documents of a context share, and so whether a context is likely to help.
"""

from .corpus_blocks import read_vectors
from .encoding import Context, ContextualEncoder, Vectors, similarity
from .hub import load_cde
from .local_idf import shared_text
from .mini import MiniCDE, load_mini_cde
from .native import CDE, CheckpointError
from .ray_encode import encode_corpus

__all__ = [
    "CDE",
    "CheckpointError",
    "Context",
    "ContextualEncoder",
    "MiniCDE",
    "Vectors",
    "encode_corpus",
    "load_cde",
    "load_mini_cde",
    "read_vectors",
    "shared_text",
    "similarity",
]
