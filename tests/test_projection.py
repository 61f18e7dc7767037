"""t-SNE: exact neighbours, the shipped map, and stored maps that are damaged."""

import os

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from helpers import projection

MAP = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "map.npz"
    projection.save_points(path, MAP)
    return path


def test_a_map_comes_back_as_it_was_stored(stored):
    assert np.array_equal(projection._read(stored, 50), MAP)
    assert os.listdir(stored.parent) == ["map.npz"]


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("bomb-went-off",))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    path.write_bytes(b"")


def one_altered_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def other_names_of_another_version(path):
    np.savez_compressed(path, coordinates=MAP, format=2)


def other_shape_of_another_version(path):
    np.savez_compressed(path, points=np.hstack([MAP, MAP]))


def numbers_that_are_not_finite(path):
    np.savez_compressed(path, points=np.full_like(MAP, np.nan))


def words(path):
    np.savez_compressed(path, points=np.array([["a", "b"]] * 50))


def pickled_code(path):
    np.savez_compressed(path, points=np.array([Bomb()], dtype=object))


def bare_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps(Bomb()))


FAULTS = [
    cut,
    emptied,
    one_altered_byte,
    other_names_of_another_version,
    other_shape_of_another_version,
    numbers_that_are_not_finite,
    words,
    pickled_code,
    bare_pickle,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_stored_map_that_is_not_whole_is_named_and_not_used(stored, fault, monkeypatch):
    monkeypatch.chdir(stored.parent)
    fault(stored)
    with pytest.warns(
        UserWarning, match=r"The stored map map\.npz is damaged \(.*\); computing it again"
    ):
        assert projection._read(stored, 50) is None
    assert not os.path.exists("bomb-went-off"), "code in a stored file is not run"


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setitem(projection.STEPS, "early_exaggeration_iter", 20)
    monkeypatch.setitem(projection.STEPS, "n_iter", 20)


def test_a_damaged_map_is_computed_anew_and_replaced(tmp_path, monkeypatch, few_steps):
    monkeypatch.setattr(projection, "LOCAL", tmp_path)
    vectors = np.random.default_rng(1).normal(size=(60, 8))
    first = projection.tsne_2d(vectors, perplexity=5, progress=False)
    (path,) = tmp_path.iterdir()
    cut(path)
    with pytest.warns(UserWarning, match="damaged"):
        again = projection.tsne_2d(vectors, perplexity=5, progress=False)
    assert again.shape == first.shape and np.array_equal(projection._read(path, 60), again)


def test_a_map_that_cannot_be_stored_is_returned_all_the_same(tmp_path, monkeypatch, few_steps):
    (tmp_path / "file").write_text("in the way of the folder", encoding="utf-8")
    monkeypatch.setattr(projection, "LOCAL", tmp_path / "file" / "tsne")
    with pytest.warns(
        UserWarning, match=r"The map could not be stored .*the next run computes it again"
    ):
        assert projection.tsne_2d(
            np.random.default_rng(1).normal(size=(60, 8)), perplexity=5, progress=False
        ).shape == (60, 2)


def test_exact_neighbours_equal_brute_force():
    rows = np.random.default_rng(5).normal(size=(700, 12)).astype(np.float32)  # more than one block
    similarity = cosine_similarity(rows)
    np.fill_diagonal(similarity, -np.inf)
    indices, distances = projection.cosine_neighbours(rows, 7)
    assert (indices == np.argsort(-similarity, axis=1)[:, :7]).all()
    assert distances == pytest.approx(1 - np.sort(similarity, axis=1)[:, ::-1][:, :7], abs=1e-5)


def test_neighbours_of_some_rows_are_those_that_all_rows_have():
    rows = np.random.default_rng(0).normal(size=(700, 16))
    asked = [650, 3, 3, 699]
    indices, distances = projection.cosine_neighbours(rows, 5)
    some, near = projection.cosine_neighbours(rows, 5, of=asked)
    assert (some == indices[asked]).all()
    assert near == pytest.approx(distances[asked], abs=1e-5)


def test_the_recall_of_a_sample_is_near_that_of_all_rows_and_the_same_each_time():
    points = np.random.default_rng(0).uniform(0.1, 1, size=(900, 2))
    vectors = np.hstack([points, np.random.default_rng(1).uniform(0, 0.1, size=(900, 3))])
    exact = projection.neighbour_recall(vectors, points)
    assert 0 < exact < 1
    assert projection.neighbour_recall(vectors, points, sample=900) == pytest.approx(exact)
    sampled = [projection.neighbour_recall(vectors, points, sample=300) for _ in range(2)]
    assert sampled[0] == sampled[1] != exact
    assert sampled[0] == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("sample", [0, 10])
def test_a_sample_that_is_no_part_of_the_rows_is_refused(sample):
    with pytest.raises(ValueError, match="sample must lie between 1 and 9"):
        projection.neighbour_recall(np.eye(9), np.eye(9)[:, :2], k=2, sample=sample)


@pytest.mark.slow
def test_the_shipped_map_belongs_to_these_weights_and_keeps_its_neighbours(table):
    path = projection.SHIPPED / f"{projection.cache_key(table, 30, 42)}.npz"
    assert path.is_file(), "weights or parameters changed: python -m helpers.projection"
    points = projection.tsne_2d(table)
    assert points.shape == (30_522, 2)
    assert projection.neighbour_recall(table, points) >= 0.37


@pytest.mark.slow
def test_tsne_computed_live_keeps_neighbours(table):
    """scikit-learn's TSNE(metric="cosine") reaches 0.383 on these vectors."""
    points = projection.tsne_2d(table, cache=False, progress=False)
    assert projection.neighbour_recall(table, points) >= 0.37


@pytest.fixture
def small(tmp_path, monkeypatch, few_steps):
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
