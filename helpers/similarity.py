"""How close vectors are, as numbers alone.

Vectors of a contextual model belong to a context, too: `helpers.cde.similarity` checks that, then
calls `cosine_matrix`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .language import translated as _


def _rows(values: Any, name: str) -> np.ndarray:
    """`values`, an array or a tensor on any device, as a matrix of rows.

    float32 stays float32; everything else becomes float64.
    """
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().float().cpu().numpy()
    try:
        matrix = np.asarray(values)
        if np.iscomplexobj(matrix):
            raise TypeError(_("complex numbers cannot be compared"))
        matrix = matrix if matrix.dtype == np.float32 else matrix.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            _("{name} must be numbers in rows of equal length: {error}").format(
                name=name, error=error
            )
        ) from error
    if matrix.ndim == 1:
        matrix = matrix[None, :]
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(
            _("{name} must be one vector or a matrix (n, d), got shape {shape}").format(
                name=name, shape=matrix.shape
            )
        )
    if not np.isfinite(matrix).all():
        raise ValueError(
            _("{name} contains NaN or infinity; such a vector has no direction to compare").format(
                name=name
            )
        )
    return matrix


def unit(values: ArrayLike) -> np.ndarray:
    """Every row divided by its Euclidean length, shape (n, d). A zero row stays zero.

    Raises:
        ValueError: the values are not rows of equal length, or a number is NaN or infinite.

    >>> unit([[3, 4], [0, 0]]).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    matrix = _rows(values, "values")
    # Scaled by a power of two, which is exact: the squares of 1e30 would overflow, those of 1e-30
    # would vanish.
    _, exponent = np.frexp(np.abs(matrix).max(axis=1, keepdims=True))
    matrix = np.ldexp(matrix, -exponent)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(lengths == 0, 1.0, lengths)


def cosine_matrix(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine similarity of every row of `a` with every row of `b`.

    Shape (len(a), len(b)), values in [-1, 1]. A zero vector has no direction; its similarities
    are 0, as in scikit-learn.

    Raises:
        ValueError: the rows differ in length, or a number is NaN or infinite.

    >>> cosine_matrix([[1, 0], [1, 1]], [[2, 0]]).round(4).tolist()
    [[1.0], [0.7071]]
    """
    a, b = unit(_rows(a, "a")), unit(_rows(b, "b"))
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            _("vectors of different length cannot be compared: {shape} and {shape_2}").format(
                shape=a.shape[1], shape_2=b.shape[1]
            )
        )
    return np.clip(a @ b.T, -1.0, 1.0)


def nearest(query: ArrayLike, vectors: ArrayLike, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The `k` rows of `vectors` closest to `query`: their numbers and cosines, best first.

    Ties go to the lower row number, so that the order is reproducible.

    Raises:
        ValueError: `query` is not one vector, `k` is not between 1 and the number of rows, or see
            `cosine_matrix`.

    >>> nearest([1, 0], [[0, 1], [1, 0], [1, 1]], k=2)[0].tolist()
    [1, 2]
    """
    cosines = cosine_matrix(query, vectors)
    if len(cosines) != 1:
        raise ValueError(
            _("query must be one vector, got {cosines}; call nearest once per vector").format(
                cosines=len(cosines)
            )
        )
    scores = cosines[0]
    if not 1 <= k <= len(scores):
        raise ValueError(
            _("k must lie between 1 and {scores}, got {k}").format(scores=len(scores), k=k)
        )
    order = np.argsort(-scores, kind="stable")[:k]
    return order, scores[order]
