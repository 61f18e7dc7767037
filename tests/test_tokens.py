"""The vocabulary and its tokens."""

import pytest

from helpers import tokens


def test_the_vocabulary_is_in_the_order_of_its_ids(encoder):
    words = tokens.vocabulary(encoder.tokenizer)
    assert len(words) == 30_522
    assert (words[0], words[101], words[3037]) == ("[PAD]", "[CLS]", "interest")


def test_a_token_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="'rate'"):
        tokens.find_token(["interest", "rate"], "bank")
