"""What holds for any input: at least one property for every public function of `helpers`.

The inputs are drawn at random, so that they are ones that nobody thought of.
"""

import importlib
import inspect
import json
import pkgutil
import re
import tempfile
from collections import Counter
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import helpers
from helpers import (
    PROJECT_ROOT,
    charts,
    device,
    exercises,
    figures,
    openai_api,
    projection,
    retrieval,
    settings,
    similarity,
    tables,
    token_map,
    tokens,
)
from helpers.cde import Context, load_mini_cde, shared_text
from helpers.console import get_console
from tests.support.examples import few, quick

any_text = st.text(st.characters() | st.sampled_from("\x00\x1b\ud83d\u202e[]\\\"'$"), max_size=30)
whole_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(-1e30, 1e30, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-30)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | any_text
    | st.just(...)
    | st.complex_numbers()
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(any_text, inner, max_size=3)
        | inner.map(lambda x: (x,))
    ),
    max_leaves=8,
)


def is_whole(text):
    """Whether a text holds no lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def matrices(rows=(1, 6), columns=(1, 5), elements=numbers, dtype=np.float64):
    return st.tuples(st.integers(*rows), st.integers(*columns)).flatmap(
        lambda shape: hnp.arrays(dtype, shape, elements=elements)
    )


# --- which functions there are --------------------------------------------------------------------

#: Modules and functions without a property here, and why: they start, load, draw or take long.
#: Their own tests are in the files named.
WITHOUT = {
    "artifacts": "reads files and the Hub: test_artifacts.py, test_hub.py",
    "cde": "models: test_cde_native.py, test_cde_mini.py, test_local_idf.py",
    "console": "reads a theme: test_console.py",
    "files": "reads and writes files: test_files.py, test_killed.py",
    "settings.choice": "reads the environment",
    "settings.source": "reads the environment: test_settings.py",
    "settings.clean_environment": "sets the environment: test_settings.py",
    "device.pick_device": "reads the machine: test_device.py",
    "device.use_threads": "reads the machine",
    "device.give_back_memory": "its effect is measured: benchmarks/growth.py",
    "doctor": "reports on the machine: test_doctor.py",
    "exercises.not_started": "takes no input: test_language.py",
    "execute": "runs kernels: test_execute.py, test_odd_use.py",
    "translations": "reads and writes notebooks: test_translations.py",
    "messages": "reads and writes a catalogue: test_language.py",
    "wording": "checks of prose, each seen failing: test_translations.py",
    "language": "reads the environment and the folder: test_language.py",
    "session": "starts a notebook: test_session.py, test_odd_text.py",
    "openai_api.connect": "starts a server: test_openai_api.py",
    "openai_api.embed": "asks an endpoint: test_openai_api.py",
    "settings.load_env": "reads .env: test_openai_api.py",
    "local_server": "a server: test_local_server.py",
    "projection.ship_vocabulary_map": "computes for a minute",
    "projection.tsne_2d": "computes for seconds: test_projection.py",
    "charts.enable": "sets a renderer: test_session.py",
    "charts.picture": "draws: test_charts.py",
    "charts.styled": "colours: test_charts.py",
    "charts.enlarged": "draws: test_workshop_projector.py",
    "charts.room": "reads the environment: test_workshop_projector.py",
    "charts.magnification": "reads the environment: test_workshop_projector.py",
    "settings.is_projected": "reads the environment: test_workshop_projector.py",
    "settings.is_live": "reads the environment: test_settings.py",
    "charts.show_heatmaps": "draws with matplotlib: test_odd_text.py",
    "token_map.show": "draws 30,522 points: test_token_map.py",
    "retrieval.load_fiqa": "one of two sources: test_data.py, test_hub.py",
}
COVERED = set()


def about(*names):
    COVERED.update(names)
    return lambda test: test


def public_functions():
    for module in pkgutil.walk_packages(helpers.__path__, "helpers."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if (
                inspect.isroutine(value)
                and not name.startswith("_")
                and value.__module__ == module.name
            ):
                yield f"{module.name.removeprefix('helpers.')}.{name}"


def test_every_public_function_has_a_property_or_a_reason_to_have_none():
    found = set(public_functions())
    excused = {name for name in found if {name, name.split(".")[0]} & set(WITHOUT)}
    assert found - excused - COVERED == set(), (
        "write a property for these, or a reason into WITHOUT"
    )
    assert COVERED - found == set(), "these are gone"


def test_every_reason_names_files_that_exist():
    names = set(re.findall(r"\S+\.py", " ".join(WITHOUT.values()).replace(",", " ")))
    there = {
        path.relative_to(folder).as_posix()
        for folder in (PROJECT_ROOT, PROJECT_ROOT / "tests", PROJECT_ROOT / "tests" / "system")
        for path in folder.rglob("*.py")
        if folder != PROJECT_ROOT or path.parent.name == "benchmarks"
    }
    assert len(names) > 10 and names <= there, names - there


# --- device and endpoint --------------------------------------------------------------------------


@about("device.batches", "device.tokens_at_a_time")
@quick
@given(
    st.lists(st.integers(0, 600), max_size=60), st.integers(0, 600), st.none() | st.integers(1, 9)
)
def test_batches_hold_every_text_once_longest_first_and_fit_the_machine(lengths, extra, most):
    made = list(device.batches(lengths, torch.device("cpu"), extra=extra, most=most))
    assert sorted(np.concatenate([*made, []])) == list(range(len(lengths)))
    assert [lengths[i] for batch in made for i in batch] == sorted(lengths, reverse=True)
    for batch in made:
        longest = extra + max(lengths[i] for i in batch)
        assert len(batch) == 1 or (
            len(batch) * longest <= device.tokens_at_a_time(torch.device("cpu"))
            and len(batch) <= (most or len(batch))
        )


@about("settings.hide_key", "openai_api.clarify")
@quick
@given(
    whole_text, st.text(st.characters(categories=["L", "N"]), min_size=4, max_size=20), whole_text
)
def test_a_key_is_nowhere_in_what_is_shown(before, key, after):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", key)
        assume(key not in "[OPENAI_API_KEY]")
        for text in (before + key + after, f"{key}-{key}"):
            assert key not in settings.hide_key(text)
            cause = ValueError(text)
            assert (
                key not in str(openai_api.clarify(KeyError(text)))
                and openai_api.clarify(cause) is cause
                and key not in str(cause)
            )
        assert settings.hide_key("nothing to hide") == "nothing to hide" or key in "nothing to hide"


@about("openai_api.vectors_of")
@quick
@given(matrices(), st.randoms())
def test_vectors_come_in_the_order_of_the_texts_whatever_the_order_of_the_answer(matrix, random):
    items = [SimpleNamespace(index=i, embedding=row.tolist()) for i, row in enumerate(matrix)]
    random.shuffle(items)
    assert np.array_equal(openai_api.vectors_of(SimpleNamespace(data=items), len(matrix)), matrix)
    items[0].embedding[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        openai_api.vectors_of(SimpleNamespace(data=items), len(matrix))
    with pytest.raises(ValueError, match="vectors for"):
        openai_api.vectors_of(SimpleNamespace(data=items), len(matrix) + 1)


@about("openai_api.batches", "openai_api.most_tokens")
@quick
@given(st.lists(any_text, max_size=12), st.integers(1, 5))
def test_batches_keep_every_text_in_order_and_every_limit(texts, most):
    cut = openai_api.batches(texts, per_request=most)
    assert [text for batch in cut for text in batch] == texts
    assert all(1 <= len(batch) <= most for batch in cut)
    assert len(cut) == -(-len(texts) // most), "so few tokens ask for no more"
    counts = [openai_api.most_tokens(text) for text in texts]
    assert all(count >= len(text) + 2 for count, text in zip(counts, texts, strict=True))


@about("openai_api.tokens_billed", "openai_api.model_named")
@quick
@given(anything, anything)
def test_tokens_are_a_count_or_none_and_a_model_is_named_whatever_comes(count, name):
    usage = SimpleNamespace(total_tokens=count)
    tokens = openai_api.tokens_billed(SimpleNamespace(usage=usage))
    assert tokens is None or tokens > 0
    assert openai_api.tokens_billed(SimpleNamespace(usage=count)) is None
    here = openai_api.Endpoint("http://127.0.0.1/v1", "small", False)
    words = openai_api.model_named(SimpleNamespace(model=name), here)
    assert "small" in words and words.encode() and (words == "small") == (name == "small")


# --- tokens ---------------------------------------------------------------------------------------


@about("tokens.visible", "tokens.short")
@quick
@given(any_text)
def test_visible_text_can_be_written_loses_nothing_and_stays_as_it_is(text):
    made = tokens.visible(text)
    made.encode()
    assert tokens.visible(made) == made
    assert len(made) >= len(text) and tokens.visible(tokens.short(text)) == tokens.short(text)
    assert made == text or tokens.UNSEEN.search(text)
    assert len(tokens.short([text * 100] * 100)) < 10_000


@about("tokens.check_texts")
@quick
@given(st.lists(any_text) | st.lists(anything) | any_text)
def test_texts_pass_unchanged_or_the_first_wrong_one_is_named(texts):
    wrong = [i for i, text in enumerate(texts) if not (isinstance(text, str) and is_whole(text))]
    if isinstance(texts, str):
        with pytest.raises(TypeError, match="not one text"):
            tokens.check_texts(texts)
    elif wrong:
        with pytest.raises((TypeError, ValueError), match=f"text {wrong[0]} "):
            tokens.check_texts(texts)
    else:
        assert tokens.check_texts(texts) == texts


@about("tokens.kind")
@quick
@given(any_text)
def test_every_token_has_one_of_three_kinds_and_a_bare_sign_is_a_word(text):
    assert tokens.kind(text) in ("word", "continuation", "special")
    assert len(text) > 2 or tokens.kind(text) == "word"
    assert tokens.kind(f"[{text}]") == ("special" if text else "word")


@about("tokens.token_labels")
@quick
@given(st.lists(st.sampled_from(["the", "the₁", "the₂", "", "₁"]) | any_text))
def test_labels_are_different_begin_with_their_token_and_leave_single_ones_alone(words):
    labels = tokens.token_labels(words)
    assert len(set(labels)) == len(labels) == len(words)
    counts = Counter(words)
    for word, label in zip(words, labels, strict=True):
        assert label.startswith(word) and (counts[word] > 1 or label == word)


@about("tokens.find_token")
@quick
@given(st.lists(any_text), any_text)
def test_a_token_is_found_at_its_first_place_or_refused_in_words(words, word):
    if word in words:
        place = tokens.find_token(words, word)
        assert words[place] == word and word not in words[:place]
    else:
        with pytest.raises(ValueError, match="Choose one of these"):
            tokens.find_token(words, word)


class Vocabulary:
    def __init__(self, words):
        self.words = words

    def get_vocab(self):
        return {word: i for i, word in reversed(list(enumerate(self.words)))}


@about("tokens.vocabulary", "tokens.vocabulary_frame")
@quick
@given(st.lists(whole_text, unique=True, min_size=1))
def test_the_vocabulary_has_every_token_at_its_id(words):
    assert tokens.vocabulary(Vocabulary(words)) == words
    frame = tokens.vocabulary_frame(Vocabulary(words))
    assert frame["token"].tolist() == words and frame["id"].tolist() == list(range(len(words)))


# --- similarity -----------------------------------------------------------------------------------


@about("similarity.unit")
@quick
@given(matrices(), st.sampled_from([np.float64, np.float32]))
def test_a_unit_vector_has_length_1_whatever_its_size_was_and_zero_stays_zero(matrix, dtype):
    lengths = np.linalg.norm(similarity.unit(matrix.astype(dtype)), axis=1)
    assert lengths == pytest.approx((matrix != 0).any(axis=1).astype(float), abs=1e-6)


@about("similarity.cosine_matrix")
@quick
@given(matrices(columns=(3, 3)), matrices(columns=(3, 3)), st.sampled_from([1e-20, 0.5, 3.0, 1e20]))
def test_cosine_is_symmetric_bounded_1_with_itself_and_blind_to_length(a, b, factor):
    cosines = similarity.cosine_matrix(a, b)
    assert cosines == pytest.approx(similarity.cosine_matrix(b, a).T)
    assert (np.abs(cosines) <= 1).all()
    assert similarity.cosine_matrix(a * factor, b) == pytest.approx(cosines, abs=1e-6)
    assert similarity.cosine_matrix(a, a).diagonal() == pytest.approx(
        (a != 0).any(axis=1).astype(float)
    )
    assert similarity.cosine_matrix(
        torch.tensor(a, requires_grad=True).float(), b
    ) == pytest.approx(cosines, abs=1e-5)


@quick
@given(anything)
def test_what_is_no_matrix_of_numbers_is_refused_in_words(value):
    try:
        made = similarity.cosine_matrix(value, value)
    except ValueError as error:
        assert len(str(error)) > 20  # noqa: PT017 - most of them are refused, some are vectors
    else:
        assert np.isfinite(made).all()


@about("similarity.nearest")
@quick
@given(matrices(rows=(2, 9), columns=(2, 2)), st.data())
def test_the_nearest_are_the_best_in_falling_order_and_ties_keep_theirs(matrix, data):
    k = data.draw(st.integers(1, len(matrix)))
    rows, scores = similarity.nearest(matrix[0], matrix, k)
    every = similarity.cosine_matrix(matrix[0], matrix)[0]
    assert rows.tolist() == sorted(range(len(matrix)), key=lambda i: (-every[i], i))[:k]
    assert scores == pytest.approx(every[rows])
    for wrong in (0, len(matrix) + 1):
        with pytest.raises(ValueError, match="k must lie between"):
            similarity.nearest(matrix[0], matrix, wrong)
    with pytest.raises(ValueError, match="one vector, got 2"):
        similarity.nearest(matrix[:2], matrix, 1)


@about("cde.local_idf.shared_text")
@quick
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=6), min_size=1, max_size=6),
    st.integers(0, 99),
    st.randoms(),
)
def test_shared_text_is_a_share_blind_to_order_and_of_equal_documents_all_or_nothing(
    documents, seed, random
):
    def shared(rows):
        vectors = torch.from_numpy(similarity.unit(directions[rows])).float()
        ids = tuple(np.array(documents[row], dtype=np.int32) for row in rows)
        return shared_text(Context(vectors, tuple(map(str, rows)), "mini-cde", ids))

    directions = np.random.default_rng(seed).normal(size=(len(documents), 3))
    rows = list(range(len(documents)))
    found = shared(rows)
    assert 0 <= found <= 1 and (len(rows) > 1 or found == 0)
    random.shuffle(rows)
    assert shared(rows) == pytest.approx(found, abs=1e-6)
    assert shared([0] * 3) == pytest.approx(float(len(documents[0]) > 3)), (
        "a word alone has no pair"
    )


# --- projection -----------------------------------------------------------------------------------


@about("projection.cosine_neighbours", "projection.neighbour_recall")
@quick
@given(matrices(rows=(4, 9), columns=(2, 2), elements=st.floats(0.1, 1)), st.integers(1, 3))
def test_neighbours_are_others_nearest_first_and_a_map_that_keeps_all_has_recall_1(matrix, k):
    indices, distances = projection.cosine_neighbours(matrix, k)
    assert indices.shape == distances.shape == (len(matrix), k)
    assert (indices != np.arange(len(matrix))[:, None]).all()
    assert (
        (np.diff(distances, axis=1) >= 0).all()
        and (distances >= 0).all()
        and (distances <= 2).all()
    )
    assert projection.neighbour_recall(matrix, matrix, len(matrix) - 1) == 1


@about("projection.estimate_seconds")
@quick
@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_more_points_take_longer(n, d):
    assert 0 < projection.estimate_seconds(n, d) < projection.estimate_seconds(n + 1, d)


@about("projection.cache_key")
@quick
@given(matrices(elements=st.floats(-1, 1)), st.integers(0, 5))
def test_a_map_has_one_name_for_its_numbers_and_another_for_others(matrix, seed):
    name = projection.cache_key(matrix, 30, seed)
    assert name == projection.cache_key(np.asfortranarray(matrix), 30.0, seed)
    assert name not in (
        projection.cache_key(matrix + 1, 30, seed),
        projection.cache_key(matrix, 30, seed + 1),
    )
    assert len(matrix) == 1 or name != projection.cache_key(matrix[1:], 30, seed)


@about("projection.save_points")
@few
@given(hnp.arrays(np.float32, (3, 2), elements=st.floats(-100, 100, width=32)))
def test_a_stored_map_is_read_back_and_nothing_lies_beside_it(points):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "map.npz"
        projection.save_points(path, points)
        assert np.array_equal(projection._read(path, 3), points)
        assert list(path.parent.iterdir()) == [path]


# --- retrieval ------------------------------------------------------------------------------------

identifiers = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)


@st.composite
def collections(draw):
    documents = draw(st.lists(identifiers, unique=True, min_size=1, max_size=6))
    queries = draw(st.lists(identifiers, unique=True, min_size=1, max_size=4))
    judged = st.dictionaries(st.sampled_from(documents), st.integers(1, 3), min_size=1, max_size=3)
    return (
        documents,
        queries,
        {query: draw(judged) for query in queries},
        draw(st.lists(whole_text, min_size=6, max_size=6)),
    )


@about("retrieval.load_beir", "retrieval.read_qrels", "retrieval.texts", "retrieval.subset")
@hypothesis_settings(quick, max_examples=20)
@given(collections(), st.integers(1, 8), st.integers(1, 5), st.integers(0, 3))
def test_a_collection_is_read_as_written_and_its_subset_keeps_what_is_relevant(
    made, size, asked, seed
):
    documents, queries, qrels, words = made
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "qrels").mkdir()
        for name, ids in (("corpus", documents), ("queries", queries)):
            rows = [
                json.dumps({"_id": i, "title": "t", "text": words[n]}) for n, i in enumerate(ids)
            ]
            (root / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
        lines = [
            "query-id\tcorpus-id\tscore",
            *(f"{q}\t{d}\t{s}" for q, judged in qrels.items() for d, s in judged.items()),
        ]
        (root / "qrels" / "test.tsv").write_text("\n".join(lines), encoding="utf-8")
        assert retrieval.read_qrels(root / "qrels" / "test.tsv") == qrels
        corpus, found, judged = retrieval.load_beir(root)
    assert (list(corpus["_id"]), list(found["_id"]), judged) == (documents, queries, qrels)
    assert retrieval.texts(corpus) == [f"t {words[n]}".strip() for n in range(len(documents))]
    part, some, kept = retrieval.subset(
        corpus, found, judged, documents=size, questions=asked, seed=seed
    )
    assert {d for judged in kept.values() for d in judged} <= set(part["_id"]) <= set(documents)
    assert list(some["_id"]) == list(kept) or set(some["_id"]) == set(kept)
    assert len(some) == min(asked, len(queries)) and len(part) >= min(size, len(documents))


@about("retrieval.read_passages")
@hypothesis_settings(quick, max_examples=20)
@given(st.lists(whole_text, max_size=5), st.sampled_from(["txt", "md", "csv", "jsonl"]))
def test_passages_are_read_as_written_once_each_and_in_order(written, kind):
    lines = [" ".join(text.split()) for text in written]
    wanted = list(dict.fromkeys(line for line in lines if line))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mine.{kind}"
        if kind == "csv":
            pd.DataFrame({"n": range(len(lines)), "text": lines}).to_csv(path, index=False)
        else:
            rows = [json.dumps({"text": t}) for t in lines] if kind == "jsonl" else lines
            path.write_text("\n\n".join(rows), encoding="utf-8")
        for given_ in (path, str(path), folder):
            if wanted:
                assert retrieval.read_passages(given_) == wanted
            else:
                with pytest.raises(ValueError, match="has no passages"):
                    retrieval.read_passages(given_)


@about("retrieval.bm25_scores")
@hypothesis_settings(quick, max_examples=20)
@given(
    st.lists(whole_text | st.sampled_from(["bank", "the", "bank rate"]), max_size=4),
    st.lists(whole_text, max_size=3),
)
def test_words_in_common_score_and_others_do_not(documents, queries):
    scores = retrieval.bm25_scores([*documents, "zyzzyva"], ["zyzzyva", *queries])
    assert scores.shape == (1 + len(queries), 1 + len(documents))
    assert np.isfinite(scores).all() and (scores >= 0).all()
    assert scores[0].argmax() == len(documents) and scores[0, -1] > 0
    assert retrieval.bm25_scores(documents, queries).shape == (len(queries), len(documents)), (
        "documents without one word as well"
    )


@about("retrieval.measure", "retrieval.compare")
@few
@given(collections(), st.data())
def test_measures_lie_in_0_to_1_and_a_perfect_ranking_has_1(made, data):
    documents, queries, qrels, _ = made
    shape = (len(queries), len(documents))
    scores = data.draw(hnp.arrays(float, shape, elements=st.floats(-10, 10)))
    table = retrieval.measure(scores, queries, documents, qrels)
    assert ((table >= 0) & (table <= 1 + 1e-9)).all(axis=None) and list(table.index) == queries
    perfect = [[qrels[query].get(document, 0) for document in documents] for query in queries]
    ideal = retrieval.measure(perfect, queries, documents, qrels)
    assert ideal["nDCG@10"].to_numpy() == pytest.approx(1) and ideal[
        "RR@10"
    ].to_numpy() == pytest.approx(1)
    assert retrieval.compare({"ideal": ideal}).loc["ideal", "nDCG@10"] == "1.000 [1.000, 1.000]"
    with pytest.raises(ValueError, match="NaN"):
        retrieval.measure(scores * np.nan, queries, documents, qrels)
    with pytest.raises(ValueError, match="no judgement"):
        retrieval.measure(scores, queries, documents, {})
    with pytest.raises(ValueError, match="stands twice"):
        retrieval.measure(np.vstack([scores] * 2), queries * 2, documents, qrels)


@about("retrieval.bootstrap")
@quick
@given(hnp.arrays(float, st.integers(1, 20), elements=st.floats(-1, 1)), st.integers(0, 3))
def test_an_interval_holds_within_the_values_and_moves_with_them(values, seed):
    low, mean, high = (
        getattr(retrieval.bootstrap(values, draws=200, seed=seed), name)
        for name in ("low", "mean", "high")
    )
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    moved = retrieval.bootstrap(values + 1, draws=200, seed=seed)
    assert (moved.low, moved.mean, moved.high) == pytest.approx(
        (low + 1, mean + 1, high + 1), abs=1e-9
    )
    with pytest.raises(ValueError, match="NaN"):
        retrieval.bootstrap([*values, np.nan])


# --- what a reader sees ---------------------------------------------------------------------------


def printed(thing):
    console = get_console()
    with console.capture() as capture:
        console.print(thing)
    capture.get().encode()
    return capture.get()


@about("tables.from_frame")
@quick
@given(st.lists(anything | st.fractions(), min_size=1, max_size=4), any_text, st.data())
def test_a_table_shows_any_cell_and_points_to_one_row(cells, title, data):
    frame = pd.DataFrame({"a": pd.Series([..., *cells], dtype=object), "n": range(len(cells) + 1)})
    focus = data.draw(st.integers(0, len(cells)))
    rows = printed(tables.from_frame(frame, title=title, focus=focus, caption=title)).count("→")
    said = sum(str(value).count("→") for value in cells) + 2 * title.count("→")
    assert rows == 1 + said
    assert tables._cell(Fraction(1, 3), 2).plain == "0.33"


@about("tables.chips", "tables.pair_panel")
@quick
@given(any_text, any_text, st.floats(-1, 1))
def test_a_panel_and_chips_show_both_texts_and_the_number(first, second, score):
    panel = printed(tables.pair_panel(first, second, score, title=second))
    assert f"{score:.4f}" in panel
    flat = "".join(panel.replace("│", "").split())
    assert "".join(tokens.visible(first).replace("│", "").replace("\r", "").split()) in flat
    assert tables.chips([first, second], focus=[1]).plain.count(" ") >= 6


@about("charts.label", "charts.axis_title")
@quick
@given(any_text)
def test_a_label_is_one_line_of_bounded_length_that_can_be_drawn(text):
    line = charts.label(text * 9)
    assert line == " ".join(line.split()) == tokens.visible(line) and len(line) <= charts.LONGEST
    assert charts.axis_title(text * 9) == line.translate({ord("\\"): "∖", ord('"'): "”"})


@about("charts.heatmap", "charts.heatmap_pair")
@quick
@given(matrices(rows=(1, 3), columns=(1, 3), elements=st.floats(-1, 1)), any_text)
def test_a_heatmap_holds_every_number_once(matrix, word):
    rows = [f"r{i} {word}" for i in range(matrix.shape[0])]
    columns = [f"c{i} {word}" for i in range(matrix.shape[1])]
    given_ = {"row_title": word, "column_title": word, "description": word}
    charts_ = [
        charts.heatmap(matrix, rows, columns, title=word, **given_),
        charts.heatmap_pair(matrix, matrix, rows, columns, titles=(word, "b"), **given_),
    ]
    for chart in charts_:
        spec = charts._visible(chart.to_dict())
        json.dumps(spec, ensure_ascii=False).encode()
        (data,) = spec["datasets"].values()
        assert [row["value"] for row in data] == pytest.approx(matrix.round(4).ravel().tolist())
        assert len({(row["row"], row["column"]) for row in data}) == matrix.size


@about("charts.lines", "charts.token_shares", "charts.intervals", "charts.token_changes")
@quick
@given(
    st.lists(st.tuples(any_text, st.floats(0, 1)), min_size=1, max_size=5),
    whole_text.filter(lambda name: name != "value"),
)
def test_charts_of_a_frame_keep_its_rows_whatever_its_columns_are_called(rows, name):
    words = pd.Series([word for word, _ in rows], dtype=object)
    values = [value for _, value in rows]
    named, titles = "s" + name, {"title": name, "description": name}
    points = pd.DataFrame({name: words, "value": values})
    shares = pd.DataFrame({"token": words, "share": values, named: words})
    means = pd.DataFrame({"mean": values, "low": values, "high": values, named: words})
    changed = pd.DataFrame({"token": words, "change": values, named: words})
    changed = changed[~words.map(charts.label).duplicated()]  # tokens must differ
    drawn = {
        "y": charts.lines(points, x=name, y="value", **titles),
        "share": charts.token_shares(shares, series=named, **titles),
        "mean": charts.intervals(means, system=named, measure=named, x_title=name, **titles),
        "change": charts.token_changes(changed, part=named, y_title=name, **titles),
    }
    for field, chart in drawn.items():
        (data,) = chart.to_dict()["datasets"].values()
        wanted = changed["change"].tolist() if field == "change" else values
        assert [row[field] for row in data] == wanted


@about("charts.histogram")
@quick
@given(
    st.dictionaries(
        any_text, st.lists(st.floats(-1, 1), min_size=1, max_size=9), min_size=1, max_size=4
    ),
    st.floats(0.01, 3),
)
def test_bins_of_a_histogram_hold_every_value_of_their_sample_once(samples, step):
    assume(len(set(map(charts.label, samples))) == len(samples))
    words = dict.fromkeys(("title", "description", "x_title", "y_title", "series_title"), "t")
    chart = charts.histogram(samples, step=step, **words)
    (data,) = charts._visible(chart.to_dict())["datasets"].values()
    for name, sample in samples.items():
        rows = [row for row in data if row["sample"] == charts.label(name)]
        assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-4)
        inside = [row for row in rows if row["share"]]
        assert inside[0]["x"] <= min(sample) + 1e-5
        assert inside[-1]["x"] + step >= max(sample) - 1e-5


@about("charts.arrows")
@quick
@given(
    st.dictionaries(
        any_text,
        st.tuples(st.floats(-100, 100), st.floats(-100, 100)).filter(lambda v: np.hypot(*v) > 0.1),
        min_size=1,
        max_size=4,
    )
)
def test_every_arrow_ends_at_its_numbers(vectors):
    assume(len(set(map(charts.label, vectors))) == len(vectors))
    chart = charts._visible(charts.arrows(vectors, title="t", description="d").to_dict())
    data = next(rows for rows in chart["datasets"].values() if "name" in rows[0])
    assert [(row["x"], row["y"]) for row in data] == list(vectors.values())


@about("charts.scatter")
@quick
@given(matrices(columns=(2, 2), elements=st.floats(-100, 100)), any_text, st.booleans())
def test_a_map_of_texts_has_one_point_per_text_near_its_place(points, word, grouped):
    texts = [f"{word} {i}" for i in range(len(points))]
    groups = {"groups": texts} if grouped else {}
    chart = charts.scatter(points, texts, title=word, description=word, **groups)
    (data,) = charts._visible(chart.to_dict())["datasets"].values()
    extent = np.ptp(points, axis=0).max()
    places = np.array([[row["x"], row["y"]] for row in data])
    assert places == pytest.approx(points, abs=0.006 * extent if extent else 0.006)
    assert [row["text"] for row in data] == list(map(charts.label, texts))


@about("figures.words", "figures.worded", "figures.catalogue")
@quick
@given(
    any_text, st.dictionaries(st.sampled_from(["count", "model"]) | any_text, anything, max_size=2)
)
def test_words_of_a_figure_hold_its_values_or_the_call_is_refused(figure, values):
    known = figures.catalogue()
    if figure not in known:
        with pytest.raises(KeyError, match="no figure"):
            figures.words(figure)
    for key, entry in known.items():
        needed = set(re.findall(r"\{(\w+)", str(entry)))
        if set(values) == needed:
            made = figures.words(key, **values)
            assert made == figures.worded(lambda **named: named)(figure=key, values=values)
            assert set(made) == set(entry)
        else:
            with pytest.raises(ValueError, match="needs a value for|has no place for"):
                figures.words(key, **values)


@about("token_map.chart", "token_map.region")
@few
@given(st.lists(whole_text, unique=True, min_size=2, max_size=6), st.data())
def test_a_map_has_every_token_and_a_region_the_one_in_its_middle(words, data):
    n = len(words)
    frame = pd.DataFrame(
        {"id": range(n), "token": words, "kind": "word", "x": np.arange(n) * 1.0, "y": 0.0}
    )

    def shown(chart):
        (rows,) = chart.to_dict()["datasets"].values()
        return [row["token"] for row in rows]

    titles = {"title": "t", "description": "d"}
    every = [charts.label(word) for word in words]
    assert shown(token_map.chart(frame, highlight=[1], **titles)) == every
    word = data.draw(st.sampled_from(words))
    near = shown(token_map.region(frame, token=word, radius=1, **titles))
    assert near[0] == charts.label(word) and len(near) in (2, 3)
    with pytest.raises(ValueError, match="is not one of"):
        token_map.region(frame, token=word + "absent" * 9, radius=1, **titles)


# --- the API --------------------------------------------------------------------------------------


@about("openai_api.cost_in_dollars", "openai_api.price_per_million")
@quick
@given(
    st.integers(0, 10**12), st.sampled_from([*openai_api.PRICES_PER_MILLION.values()]), whole_text
)
def test_costs_add_up_and_only_openais_own_models_have_a_price(count, price, model):
    whole = openai_api.cost_in_dollars(2 * count, price)
    assert whole == pytest.approx(2 * openai_api.cost_in_dollars(count, price))
    assume(model not in openai_api.PRICES_PER_MILLION)
    assert (
        openai_api.price_per_million(openai_api.Endpoint("https://api.openai.com/v1", model, False))
        is None
    )
    assert (
        openai_api.price_per_million(openai_api.Endpoint("http://127.0.0.1/v1", model, True)) == 0
    )


# --- exercises ------------------------------------------------------------------------------------

FUNCTIONS = [
    exercises.check_cosine,
    exercises.check_shorten,
    exercises.check_pooling,
    exercises.check_own_mean,
]
VECTORS = np.random.default_rng(0).normal(size=(9, 4))


RECALL = pd.DataFrame({name: [0.5, 1.0] for name in ("nDCG@10", "R@10", "RR@10")})
ATTENTION = [np.full((1, 3, 2, 2), 0.5), np.full((1, 3, 2, 2), 0.4)]


def check_everything(answer, tokenizer):
    for check in FUNCTIONS:
        yield check(lambda *_: answer)
        yield check(answer)
    yield exercises.check_nearest_tokens(lambda *_: answer, VECTORS, 0)
    yield exercises.check_cost(answer, texts=7, tokens_per_text=3, per_million=0.123)
    yield exercises.check_ids(answer, tokenizer, "the bank's yield")
    yield exercises.check_fewest(lambda *_: answer, tokenizer.get_vocab())
    yield exercises.check_fewest(answer, tokenizer.get_vocab())
    yield exercises.check_head(answer, ATTENTION, 0, 1)
    yield exercises.check_senses(answer, [True, False, True], [False, False, True])
    model, pair = load_mini_cde(), ["the bank's yield", "a boat"]
    yield exercises.check_hurtful(model, answer, answer, answer)
    yield exercises.check_hurtful(model, answer, "bank", {0})
    yield exercises.check_hurtful(model, pair, answer, {0})
    yield exercises.check_hurtful(model, pair, "bank", answer)
    systems = dict.fromkeys(("MiniLM", "right context"), RECALL)
    yield exercises.check_verdict(answer, retrieval.bootstrap([0.0]), systems)
    yield exercises.check_verdict("better", answer, systems)


@about(
    *(
        f"exercises.{name}"
        for name, value in vars(exercises).items()
        if name.startswith("check_") and value.__module__ == exercises.__name__
    )
)
@quick
@given(anything)
def test_no_answer_breaks_a_check_and_every_wrong_one_gets_a_hint(encoder, answer):
    for feedback in check_everything(answer, encoder.tokenizer):
        repr(feedback).encode()
        assert len(feedback.message) > 10


@pytest.mark.parametrize(
    "answer",
    [
        10**400,
        [float("inf")],
        [[1], [1, 2]],
        np.eye(2),
        torch.ones(3, requires_grad=True),
        torch.eye(2),
        np.array(["a"]),
        pd.Series([1]),
        pd.DataFrame({"a": [1]}),
        object(),
        type("Odd", (), {"ids": 5})(),
        "a\ud83d",
        timedelta(1),
        {1: None},
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_answers_that_once_broke_a_check_get_a_hint(encoder, answer):
    for feedback in check_everything(answer, encoder.tokenizer):
        repr(feedback).encode()
        assert not feedback.correct or feedback.message


def test_a_function_that_works_in_place_does_not_change_the_question():
    def in_place(a, b):
        a /= np.linalg.norm(a)
        b /= np.linalg.norm(b)
        return a @ b

    assert [exercises.check_cosine(in_place).correct for _ in range(2)] == [True, True]
    assert "dot product" in exercises.check_cosine(lambda a, b: a @ b).message, (
        "the next answer is measured with the same vectors"
    )
