"""Cosine, unit vectors, nearest rows; and the values that the real weights must give."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from helpers.similarity import cosine_matrix, nearest, unit

POLITICS = "I have no interest in politics"
BANK = "The bank's interest rate rises"
CHASE = "Chase increased its lending fees"


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
