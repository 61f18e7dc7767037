"""t-SNE of the whole vocabulary, live, against scikit-learn's, in one run: `python -m benchmarks.tsne`.

Exit status 1 when ours is less than 4 times as fast, or keeps less than 97 % of its neighbours.
"""

import sys
import time

import sklearn
import torch
from sklearn.manifold import TSNE

from helpers import projection
from helpers.artifacts import load_encoder

FLOOR_SPEED, FLOOR_RECALL = 4.0, 0.97


def timed(name, compute, table):
    start = time.perf_counter()
    points = compute()
    seconds = time.perf_counter() - start
    recall = projection.neighbour_recall(table, points)
    print(f"{name:<34} {seconds:7.1f} s   neighbour recall@10 {recall:.4f}", flush=True)
    return seconds, recall


def main():
    table = load_encoder().transformers_model.get_input_embeddings().weight.detach().cpu().numpy()
    print(f"{table.shape[0]:,} x {table.shape[1]}, {torch.get_num_threads()} threads, scikit-learn {sklearn.__version__}, once each")
    ours = timed("helpers.projection.tsne_2d", lambda: projection.tsne_2d(table, cache=False, progress=False), table)
    theirs = timed('sklearn TSNE(metric="cosine")', lambda: TSNE(metric="cosine", random_state=42).fit_transform(table), table)
    speed, recall = theirs[0] / ours[0], ours[1] / theirs[1]
    print(f"{speed:.1f} times as fast, {recall:.1%} of its recall")
    return 0 if speed >= FLOOR_SPEED and recall >= FLOOR_RECALL else 1


if __name__ == "__main__":
    sys.exit(main())
