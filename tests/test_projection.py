"""t-SNE: exact neighbours, the shipped map, and stored maps that are damaged."""

import os

import numpy as np
import pytest

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
    cut, emptied, one_altered_byte, other_names_of_another_version, other_shape_of_another_version, numbers_that_are_not_finite,
    words, pickled_code, bare_pickle,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_stored_map_that_is_not_whole_is_named_and_not_used(stored, fault, monkeypatch):
    monkeypatch.chdir(stored.parent)
    fault(stored)
    with pytest.warns(
        UserWarning, match=r"The stored map map\.npz is damaged \(.*\); computing it anew"
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
