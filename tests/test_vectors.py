"""Floor 2: tokens, similarity, projection, on the real model."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from helpers import projection, tokens
from helpers.similarity import cosine_matrix, nearest, unit

POLITICS, BANK, CHASE = (
    "I have no interest in politics",
    "The bank's interest rate rises",
    "Chase increased its lending fees",
)


def test_the_three_sentences_have_the_published_cosines(encoder):
    similarity = cosine_matrix(*[encoder.encode([POLITICS, BANK, CHASE])] * 2).round(4)
    assert [similarity[0, 1], similarity[0, 2], similarity[1, 2]] == [0.0616, 0.0295, 0.4345]


def test_the_same_token_has_one_input_vector_and_two_output_vectors(encoder, table):
    ids = [
        encoder.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (POLITICS, BANK)
    ]
    assert ids[0][3] == ids[1][4] == 3037
    assert cosine_matrix(table[ids[0][3]], table[ids[1][4]])[0, 0] == pytest.approx(1.0, abs=1e-6)
    outputs = [encoder.encode(text, output_value="token_embeddings") for text in (POLITICS, BANK)]
    assert cosine_matrix(outputs[0][4], outputs[1][5])[0, 0] == pytest.approx(0.4082, abs=5e-4)


def test_cosine_agrees_with_scikit_learn():
    generator = np.random.default_rng(3)
    a, b = generator.normal(size=(7, 5)), generator.normal(size=(4, 5))
    assert cosine_matrix(a, b) == pytest.approx(cosine_similarity(a, b), abs=1e-12)


def test_a_zero_vector_has_similarity_zero_and_no_nan():
    assert cosine_matrix([[0, 0]], [[1, 2]]).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[1, 2]], [[1, 2, 3]], "different length"),
        ([[float("nan"), 1]], [[1, 1]], "NaN"),
        ([["x", "y"]], [[1, 1]], "must be numbers"),
        (np.zeros((2, 2, 2)), [[1, 1]], "shape"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused_in_words(a, b, message):
    with pytest.raises(ValueError, match=message):
        cosine_matrix(a, b)


def test_nearest_is_best_first_and_bounded():
    assert nearest([1, 0], [[0, 1], [1, 0], [1, 1]], k=3)[0].tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="between 1 and 1"):
        nearest([1, 0], [[1, 0]], k=2)


def test_unit_rows_have_length_one(table):
    assert np.linalg.norm(unit(table[:50]), axis=1) == pytest.approx(1.0, abs=1e-6)


def test_the_vocabulary_is_in_the_order_of_its_ids(encoder):
    words = tokens.vocabulary(encoder.tokenizer)
    assert len(words) == 30_522
    assert (words[0], words[101], words[3037]) == ("[PAD]", "[CLS]", "interest")


def test_a_token_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="'rate'"):
        tokens.find_token(["interest", "rate"], "bank")


def test_exact_neighbours_equal_brute_force():
    rows = np.random.default_rng(5).normal(size=(700, 12)).astype(np.float32)  # more than one block
    similarity = cosine_similarity(rows)
    np.fill_diagonal(similarity, -np.inf)
    indices, distances = projection.cosine_neighbours(rows, 7)
    assert (indices == np.argsort(-similarity, axis=1)[:, :7]).all()
    assert distances == pytest.approx(1 - np.sort(similarity, axis=1)[:, ::-1][:, :7], abs=1e-5)


def test_the_shipped_map_belongs_to_these_weights_and_keeps_its_neighbours(table):
    path = projection.SHIPPED / f"{projection.cache_key(table, 30, 42)}.npz"
    assert path.is_file(), "weights or parameters changed: python -m helpers.projection"
    points = projection.tsne_2d(table)
    assert points.shape == (30_522, 2)
    assert projection.neighbour_recall(table, points) >= 0.37


def test_tsne_computed_live_keeps_neighbours(table):
    """scikit-learn's TSNE(metric="cosine") reaches 0.383 on these vectors."""
    points = projection.tsne_2d(table, cache=False, progress=False)
    assert projection.neighbour_recall(table, points) >= 0.37


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(projection, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(projection, "LOCAL", tmp_path / "local")
    return np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)


def test_a_map_is_stored_once_and_read_back(small, capsys):
    first = projection.tsne_2d(small, perplexity=10)
    assert "about" in capsys.readouterr().out
    assert (projection.tsne_2d(small, perplexity=10) == first).all()
    assert capsys.readouterr().out == ""
    assert len(list(projection.LOCAL.iterdir())) == 1
    projection.tsne_2d(small, perplexity=11, progress=False)
    assert len(list(projection.LOCAL.iterdir())) == 2, "another parameter is another map"


def test_a_damaged_map_is_named_and_computed_anew(small):
    projection.tsne_2d(small, perplexity=10, progress=False)
    (path,) = projection.LOCAL.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="damaged"):
        points = projection.tsne_2d(small, perplexity=10, progress=False)
    assert np.isfinite(points).all()
    assert (projection.tsne_2d(small, perplexity=10) == points).all(), (
        "the damaged file was replaced"
    )


def test_too_few_rows_for_the_perplexity_are_refused(small):
    with pytest.raises(ValueError, match="Lower it"):
        projection.tsne_2d(small[:61], perplexity=30)
