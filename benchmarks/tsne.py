"""t-SNE of the whole vocabulary, computed live, against scikit-learn's."""

import sys

from sklearn.manifold import TSNE

from helpers import projection
from helpers.artifacts import load_encoder

from .harness import Row, part, timed


def run() -> list[Row]:
    table = load_encoder().transformers_model.get_input_embeddings().weight.detach().cpu().numpy()
    maps = {}

    def ours() -> None:
        maps["ours"] = projection.tsne_2d(table, cache=False, progress=False)

    def theirs() -> None:
        maps["theirs"] = TSNE(metric="cosine", random_state=42).fit_transform(table)

    seconds = {name: timed(call, repeats=3) for name, call in (("ours", ours), ("theirs", theirs))}
    recall = {name: projection.neighbour_recall(table, points) for name, points in maps.items()}
    share = recall["ours"] / recall["theirs"]
    claim = (
        f"neighbour recall@10 {recall['ours']:.4f}, {share:.1%} of its {recall['theirs']:.4f} "
        "(at least 97 %)"
    )
    what = f"t-SNE of the {table.shape[0]:,} x {table.shape[1]} vocabulary, live"
    against = '`sklearn.manifold.TSNE(metric="cosine")`'
    ours, theirs = seconds["ours"], seconds["theirs"]
    return [Row(what, against, ours, theirs, "s", 5, 8, claims={claim: share >= 0.97})]


if __name__ == "__main__":
    sys.exit(part(run))
