"""The map of all tokens as one JavaScript file: places, kinds, names and nearest neighbours."""

from __future__ import annotations

import base64
import json

import numpy as np

from helpers import artifacts, projection, tokens

KINDS = ("word", "continuation", "special")
NEIGHBOURS = 8


def packed(numbers: np.ndarray) -> str:
    """Whole numbers below 65,536, two bytes each, little end first, in base64."""
    return base64.b64encode(numbers.astype("<u2").tobytes()).decode("ascii")


def script() -> bytes:
    """`window.tokenMap`: the shipped map, and for each token its 8 nearest by cosine."""
    encoder = artifacts.load_encoder()
    vocabulary = tokens.vocabulary_frame(encoder.tokenizer)
    table = encoder.transformers_model.get_input_embeddings().weight.detach().cpu().numpy()
    places = projection.tsne_2d(table, progress=False)
    low, span = places.min(axis=0), np.ptp(places, axis=0).max()
    nearest, _ = projection.cosine_neighbours(table, NEIGHBOURS)
    data = {
        "tokens": "\n".join(vocabulary["token"]),
        "kinds": "".join(str(KINDS.index(kind)) for kind in vocabulary["kind"]),
        "places": packed(((places - low) / span * 65535).round()),
        "size": ((places.max(axis=0) - low) / span * 65535).round().tolist(),
        "neighbours": packed(nearest),
        "k": NEIGHBOURS,
    }
    return f"window.tokenMap={json.dumps(data, ensure_ascii=False)};\n".encode()
