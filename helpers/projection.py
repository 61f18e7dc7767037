"""From many dimensions to two: t-SNE fast enough to watch.

Exact cosine neighbours by blocked matrix products (torch, on the chosen device), then openTSNE's
interpolation-based gradient (Linderman et al. 2019, FIt-SNE; Poličar et al. 2024, openTSNE).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import PROJECT_ROOT
from .device import pick_device
from .files import check_shipped, write_whole
from .language import translated as _
from .similarity import unit

if TYPE_CHECKING:
    from openTSNE.affinity import Affinities

SHIPPED = PROJECT_ROOT / "data" / "tsne"
LOCAL = PROJECT_ROOT / ".cache" / "tsne"

#: Neighbours per unit of perplexity; then openTSNE's arguments: steps with early exaggeration and
#: without, and the width of a cell of the interpolation grid in units of the map. The usual values,
#: 3, 250 + 500 and 1, keep 2 % more of the ten nearest neighbours and take three times as long.
NEIGHBOURS = 2
STEPS = {"early_exaggeration_iter": 50, "n_iter": 500, "ints_in_interval": 2}
BLOCK = 512  # rows of similarities held at a time: 60 MB for the vocabulary


def cosine_neighbours(
    vectors: ArrayLike, k: int, *, progress: bool = False, of: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest other rows of every row by cosine, exactly.

    Args:
        vectors: shape (n, d).
        progress: draw a progress bar.
        of: numbers of the m rows whose neighbours are wanted; all n by default.

    Returns:
        Row numbers and cosine distances (1 - similarity), both of shape (m, k), nearest first.

    Raises:
        ValueError: `k` is not between 1 and n - 1, or a number is NaN or infinite.
        IndexError: there is no such row.

    >>> cosine_neighbours([[1, 0], [0, 1], [2, 1]], k=1)[0].tolist()
    [[2], [2], [0]]
    """
    import torch
    from tqdm.auto import tqdm

    rows = torch.as_tensor(unit(vectors), dtype=torch.float32, device=pick_device())
    n = len(rows)
    if not 1 <= k < n:
        raise ValueError(_("k must lie between 1 and {n}, got {k}").format(n=n - 1, k=k))
    asked = torch.arange(n) if of is None else torch.arange(n)[torch.as_tensor(of)]
    asked = asked.to(rows.device)
    m = len(asked)
    indices, distances = np.empty((m, k), dtype=np.int64), np.empty((m, k), dtype=np.float64)
    # one buffer for all blocks: allocating it again costs a fifth of the product's time
    buffer = torch.empty(min(m, BLOCK), n, device=rows.device)
    bar = tqdm(total=m, desc=_("neighbours"), unit="row", disable=not progress)
    with torch.inference_mode(), bar:
        for start in range(0, m, BLOCK):
            part = asked[start : start + BLOCK]
            block = torch.mm(rows[part], rows.T, out=buffer[: len(part)])
            # a row is not its own neighbour
            block[torch.arange(len(part), device=rows.device), part] = -torch.inf
            similarity, index = block.topk(k, dim=1)
            indices[start : start + len(block)] = index.cpu().numpy()
            distances[start : start + len(block)] = 1.0 - similarity.double().cpu().numpy()
            bar.update(len(block))
    return indices, distances.clip(0.0, 2.0)


def neighbour_recall(
    vectors: ArrayLike, points: ArrayLike, k: int = 10, sample: int | None = None
) -> float:
    """Share of a row's `k` nearest by cosine that are also its `k` nearest on the map; the mean.

    Args:
        vectors: shape (n, d).
        points: their places on the map, shape (n, 2).
        sample: over how many rows, drawn with a fixed seed; all n by default.

    Raises:
        ValueError: `k` is not between 1 and n - 1, or `sample` not between 1 and n.
    """
    from sklearn.neighbors import NearestNeighbors

    n = len(np.asarray(points))
    if sample is not None and not 1 <= sample <= n:
        raise ValueError(_("sample must lie between 1 and {n}, got {k}").format(n=n, k=sample))
    rows = np.arange(n)
    if sample is not None:
        rows = np.random.default_rng(42).choice(n, sample, replace=False)
    true, _distances = cosine_neighbours(vectors, k, of=rows)
    # of all rows: in two dimensions that takes a moment
    drawn = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)[rows]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(true, drawn, strict=True)]))


def estimate_seconds(n: int, d: int) -> float:
    """Rough duration of a live run on two laptop cores.

    The neighbours take time in proportion to n * n * d, the rest in proportion to n.
    """
    return 8 * (n / 30_522) ** 2 * (d / 384) + 12 * n / 30_522


def cache_key(vectors: np.ndarray, perplexity: float, seed: int) -> str:
    """Name of a map: a hash of its vectors' bytes and of every parameter that shapes it."""
    parameters = (vectors.shape, float(perplexity), int(seed), NEIGHBOURS, sorted(STEPS.items()))
    digest = hashlib.sha256(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
    digest.update(repr(parameters).encode())
    return digest.hexdigest()[:16]


def _read(path: Path, n: int) -> np.ndarray | None:
    """Points of a stored map, or None: there is none, or it is damaged, which a warning reports."""
    if not path.is_file():
        return None
    try:
        check_shipped(path)
        with np.load(path, allow_pickle=False) as stored:
            points = stored["points"].astype(np.float32)
        if points.shape != (n, 2) or not np.isfinite(points).all():
            raise ValueError(
                _("expected finite points of shape ({n}, 2), found {shape}").format(
                    n=n, shape=points.shape
                )
            )
    except Exception as error:  # a truncated file raises zip, OS, key or value errors
        warnings.warn(
            _("The stored map {name} is damaged ({error}); computing it again.").format(
                name=path.name, error=error
            ),
            stacklevel=3,
        )
        return None
    return points


def save_points(path: Path, points: np.ndarray) -> None:
    """Write a map whole or not at all: two kernels may store the same one at once."""
    data = io.BytesIO()
    np.savez_compressed(data, points=points.astype(np.float32))
    write_whole(path, data.getvalue())


def tsne_2d(
    vectors: ArrayLike,
    *,
    perplexity: float = 30,
    seed: int = 42,
    cache: bool = True,
    progress: bool = True,
) -> np.ndarray:
    """t-SNE of the rows of `vectors` under cosine distance (van der Maaten and Hinton 2008).

    Coordinates have no unit and differ between machines; what repeats is the neighbourhoods.

    Args:
        vectors: shape (n, d) with n > 2 * perplexity + 1.
        perplexity: effective number of neighbours that each point attends to.
        seed: of the random noise that breaks ties in the initialisation.
        cache: look for a stored map of exactly these vectors and parameters, and store a new one.
            The map of the vocabulary ships with the project. `False` always computes.
        progress: print how long it may take, and draw progress bars.

    Returns:
        Points of the map, shape (n, 2), float32.

    Raises:
        ValueError: too few rows for the perplexity, or a number is NaN or infinite.
    """
    table = np.asarray(vectors.detach().cpu() if hasattr(vectors, "detach") else vectors)
    rows = unit(table)
    n, d = rows.shape
    k = int(NEIGHBOURS * perplexity)
    if perplexity < 1 or n <= k + 1:
        raise ValueError(
            _(
                "perplexity {perplexity} needs more than {k} rows, and there are {n}. Lower it."
            ).format(perplexity=perplexity, k=k + 1, n=n)
        )
    name = f"{cache_key(table, perplexity, seed)}.npz"
    if cache:
        for folder in (SHIPPED, LOCAL):
            points = _read(folder / name, n)
            if points is not None:
                return points
    if progress:
        seconds = estimate_seconds(n, d)
        print(
            _(
                "t-SNE of {n:,} x {d}: about {seconds:.0f} s on two laptop cores, less on more."
            ).format(n=n, d=d, seconds=seconds)
        )
    points = _embed(rows, perplexity, seed, progress)
    if cache:
        try:
            save_points(LOCAL / name, points)
        except OSError as error:
            warnings.warn(
                _("The map could not be stored ({error}); the next run computes it again.").format(
                    error=error
                ),
                stacklevel=2,
            )
    return points


def _embed(rows: np.ndarray, perplexity: float, seed: int, progress: bool) -> np.ndarray:
    """t-SNE from exact neighbours: affinities, initialisation by PCA, optimisation."""
    from openTSNE import initialization
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    indices, distances = cosine_neighbours(rows, int(NEIGHBOURS * perplexity), progress=progress)
    neighbours = PrecomputedNeighbors(indices, distances)
    affinities = PerplexityBasedNN(knn_index=neighbours, perplexity=perplexity, n_jobs=-1)
    start = initialization.pca(rows, random_state=seed)
    return _optimise(affinities, start, seed, progress)


def _optimise(affinities: Affinities, start: np.ndarray, seed: int, progress: bool) -> np.ndarray:
    """Run openTSNE's optimiser behind one progress bar."""
    from openTSNE import TSNE
    from tqdm.auto import tqdm

    total = STEPS["early_exaggeration_iter"] + STEPS["n_iter"]
    with tqdm(total=total, desc=_("optimising"), unit="step", disable=not progress) as bar:
        every = 10

        def tick(*_: Any) -> None:
            bar.update(every)

        model = TSNE(
            **STEPS,
            n_jobs=-1,
            random_state=seed,
            negative_gradient_method="fft",
            callbacks=tick,
            callbacks_every_iters=every,
        )
        return np.asarray(model.fit(affinities=affinities, initialization=start), dtype=np.float32)


def ship_vocabulary_map() -> Path:
    """Compute the map of MiniLM's input embeddings, store it with the project; returns its path."""
    from .artifacts import load_encoder

    model: Any = load_encoder().transformers_model
    table = model.get_input_embeddings().weight.detach().cpu().numpy()
    path = SHIPPED / f"{cache_key(table, 30, 42)}.npz"
    save_points(path, tsne_2d(table, cache=False))
    path.chmod(0o644)
    return path


if __name__ == "__main__":  # python -m helpers.projection
    print(f"stored {ship_vocabulary_map().relative_to(PROJECT_ROOT).as_posix()}")
