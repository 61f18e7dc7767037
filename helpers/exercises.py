"""Checks of the learners' answers: right, or a hint that fits the mistake.

Every check compares with a result computed here and recognises typical mistakes by the results they
give. It never raises: an answer that breaks is told what broke.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from .language import translated as _
from .local_server import MAX_INPUTS, MAX_REQUEST_TOKENS
from .openai_api import cost_in_dollars
from .similarity import unit
from .tokens import check_texts, visible


@dataclass(frozen=True)
class Feedback:
    """What a check says; shown by the notebook as one line of text."""

    correct: bool
    message: str

    def __repr__(self) -> str:
        verdict = _("✓ Correct. {message}") if self.correct else _("✗ Not yet. {message}")
        return verdict.format(message=visible(self.message))


def not_started() -> Feedback:
    """What a check says of an answer that is still `...`."""
    return Feedback(False, _("The answer is still `...`: replace it, run the cell again."))


def _right(message: str) -> Feedback:
    return Feedback(True, message)


def _hint(message: str) -> Feedback:
    return Feedback(False, message)


def _array(answer: Any) -> np.ndarray | None:
    """The answer as numbers; None if it is something else."""
    try:
        answer = answer.detach().cpu() if hasattr(answer, "detach") else answer
        return np.asarray(answer, dtype=float)
    except Exception:  # a learner may give anything, and anything may break here
        return None


def _number(answer: Any) -> float | None:
    """The answer as one finite number; None if it is something else."""
    value = _array(answer)
    if value is None or value.size != 1 or not np.isfinite(value).all():
        return None
    return float(value.reshape(-1)[0])


def _whole(answer: Any) -> list[int] | None:
    """The answer as one list of whole numbers; None if it is something else."""
    value = _array(answer)
    if value is None or value.ndim != 1 or not np.isfinite(value).all():
        return None
    whole = value == np.round(value)
    return [int(number) for number in value] if whole.all() else None


def _call(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Feedback | None]:
    """The function's result, or the feedback that says why there is none."""
    if not callable(function):
        return None, _hint(
            _("Give the function itself, without calling it: check_...(my_function).")
        )
    try:
        result = function(*deepcopy(arguments))  # a copy, which it may change in place
    except Exception as error:  # whatever a learner's code raises is shown to the learner
        return None, _hint(
            _("Your function stopped with {kind}: {error}").format(
                kind=type(error).__name__, error=error
            )
        )
    if result is None or result is Ellipsis:
        return None, _hint(
            _("Your function returns nothing yet: it needs a `return` with the result.")
        )
    return result, None


def _same(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Equal in shape and, within `tolerance`, in every number."""
    a, b = _array(a), _array(b)
    if a is None or b is None or a.shape != b.shape:
        return False
    return bool(np.allclose(a, b, atol=tolerance))


# --- notebook 1 -----------------------------------------------------------------------------------

_A, _B = np.array([1.0, 2.0, -2.0]), np.array([4.0, 0.0, 3.0])  # lengths 3 and 5, dot product -2


def check_cosine(function: Callable[[Any, Any], Any]) -> Feedback:
    """Notebook 1: `function(a, b)` gives the cosine similarity of two vectors of any length.

    >>> check_cosine(lambda a, b: a @ b).message[:24]
    'That is the dot product.'
    """
    result, trouble = _call(function, _A, _B)
    if trouble:
        return trouble
    value = _number(result)
    if value is None:
        return _hint(
            _(
                "The result has to be one number: multiply element by element, then "
                "sum (or use a @ b)."
            )
        )
    dot, na, nb = _A @ _B, np.linalg.norm(_A), np.linalg.norm(_B)
    if abs(value - dot / (na * nb)) < 1e-6:
        return _right(_("Only the angle counts: stretching a vector changes nothing."))
    mistakes = [
        (
            dot,
            _(
                "That is the dot product. It equals the cosine only for vectors of "
                "length 1: divide by both lengths."
            ),
        ),
        (
            1 - dot / (na * nb),
            _("That is the cosine distance, 1 - similarity. The exercise asks for the similarity."),
        ),
        (
            np.linalg.norm(_A - _B),
            _(
                "That is the Euclidean distance. Cosine looks at the angle only: dot "
                "product divided by lengths."
            ),
        ),
        (
            dot / na,
            _("You divided by the length of `a` only. Divide by the length of `b` as well."),
        ),
        (
            dot / nb,
            _("You divided by the length of `b` only. Divide by the length of `a` as well."),
        ),
        (dot / (na + nb), _("You divided by the sum of the lengths. Divide by their product.")),
        (
            dot / (na * nb) ** 2,
            _("You divided by the squared lengths: the Euclidean norm ends with a square root."),
        ),
    ]
    for number, hint in mistakes:
        if abs(value - number) < 1e-6:
            return _hint(hint)
    return _hint(
        _(
            "Cosine similarity is the dot product divided by the product of the "
            "two Euclidean lengths."
        )
    )


def check_shorten(function: Callable[[Any, int], Any]) -> Feedback:
    """Notebook 1: `function(vector, k)` keeps the first `k` numbers, rescaled to a unit vector.

    >>> check_shorten(lambda vector, k: vector[:k])
    ✗ Not yet. Cut, but not of length 1 any more: divide by its own Euclidean length.
    """
    vector, k = np.array([0.1, 0.7, -0.1, 0.5, 0.3, -0.4]) / np.sqrt(1.01), 2
    result, trouble = _call(function, vector, k)
    if trouble:
        return trouble
    head = vector[:k]
    if _same(result, head / np.linalg.norm(head)):
        return _right(_("Shorter, and of length 1 again, so a dot product is a cosine."))
    if _same(result, head):
        return _hint(_("Cut, but not of length 1 any more: divide by its own Euclidean length."))
    if _same(result, vector[-k:]) or _same(result, vector[-k:] / np.linalg.norm(vector[-k:])):
        return _hint(
            _(
                "These are the last numbers. Models trained for shortening put the "
                "most important ones first."
            )
        )
    given = _array(result)
    if given is not None and given.size == len(vector):
        return _hint(
            _(
                "Still as long as before: setting numbers to zero, or only "
                "normalising, does not shorten. Slice with [:k]."
            )
        )
    if _same(result, head / np.abs(head).sum()):
        return _hint(
            _(
                "You divided by the sum of absolute values. Length 1 means that the "
                "squares sum to 1."
            )
        )
    return _hint(_("Two steps: take vector[:k], then divide it by its own np.linalg.norm."))


def check_cost(answer: Any, *, texts: int, tokens_per_text: int, per_million: float) -> Feedback:
    """Notebook 1: dollars for embedding `texts` texts of `tokens_per_text` tokens.

    >>> check_cost(0.196, texts=57_638, tokens_per_text=170, per_million=0.02)
    ✓ Correct. 57,638 texts of 170 tokens cost about $0.20.
    """
    if answer is ...:
        return not_started()
    value = _number(answer)
    if value is None:
        return _hint(_("Give one number, in dollars."))
    right = cost_in_dollars(texts * tokens_per_text, per_million)

    def near(number: float) -> bool:
        return abs(value - number) <= 0.02 * abs(number)

    if near(right):
        return _right(
            _("{texts:,} texts of {tokens_per_text} tokens cost about ${right:.2f}.").format(
                texts=texts, tokens_per_text=tokens_per_text, right=right
            )
        )
    if near(right * 1e6):
        return _hint(_("The price is for a million tokens, not for one: divide by 1,000,000."))
    if near(right * 1e3):
        return _hint(_("The price is for a million tokens, not for a thousand."))
    if near(texts * per_million / 1e6):
        return _hint(_("You counted texts. Tokens are billed: multiply by the tokens per text."))
    if near(tokens_per_text * per_million / 1e6):
        return _hint(_("That is the price of one text. Multiply by the number of texts."))
    if near(right * 100):
        return _hint(_("That looks like cents. Give the price in dollars."))
    return _hint(
        _(
            "Texts times tokens per text gives tokens. Multiply by the price of a "
            "million tokens, and divide by a million."
        )
    )


_MANY = [100] * 2500 + [400] * 1387  # tokens of 3,887 texts, which just fit into 3 requests


def check_batches(function: Callable[[list[int]], Any]) -> Feedback:
    """Notebook 1: `function(counts)` gives the number of texts in each request, in order.

    `counts` are the tokens of the texts. A request takes 2,048 texts and 300,000 tokens.

    >>> check_batches(lambda counts: [len(counts)])
    ✗ Not yet. A request with 3,887 texts: at most 2,048 fit into one.
    """
    result, trouble = _call(function, _MANY)
    if trouble:
        return trouble
    sizes = _whole(result)
    if sizes is None:
        return _hint(
            _(
                "Give a list of whole numbers, how many texts go into each request; "
                "for two texts in one request, [2]."
            )
        )
    if any(size <= 0 for size in sizes):
        return _hint(_("An empty request is refused. Start a new one only when a text comes."))
    if sum(sizes) != len(_MANY):
        lost = _(" Is the last request in your list?")
        return _hint(
            _("Your requests hold {sizes:,} texts, and there are {many:,}.").format(
                sizes=sum(sizes), many=len(_MANY)
            )
            + (lost if sum(sizes) < len(_MANY) else "")
        )
    if max(sizes) > MAX_INPUTS:
        return _hint(
            _("A request with {sizes:,} texts: at most {max_inputs:,} fit into one.").format(
                sizes=max(sizes), max_inputs=MAX_INPUTS
            )
        )
    ends = np.cumsum(sizes)
    tokens = [sum(_MANY[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    if max(tokens) > MAX_REQUEST_TOKENS:
        return _hint(
            _(
                "The number of texts is right everywhere, but request {number} has "
                "{tokens:,} tokens: at most {max_request_tokens:,} fit into one."
            ).format(
                number=int(np.argmax(tokens)) + 1,
                tokens=max(tokens),
                max_request_tokens=MAX_REQUEST_TOKENS,
            )
        )
    if len(sizes) > 3:
        return _hint(
            _(
                "Every request is within the limits, but there are {sizes} of them, "
                "and 3 would do: fill each one up to the limits, which are allowed "
                "themselves."
            ).format(sizes=len(sizes))
        )
    return _right(
        _("3 requests: the first is full by its number of texts, the others by their tokens.")
    )


# --- notebook 2 -----------------------------------------------------------------------------------


def check_ids(answer: Any, tokenizer: Any, text: str) -> Feedback:
    """Notebook 2: the ids of the tokens of `text`, without [CLS] and [SEP]."""
    if answer is ...:
        return not_started()
    right = tokenizer(text, add_special_tokens=False)["input_ids"]
    with_special = tokenizer(text)["input_ids"]
    given = _whole(answer)
    if given == right:
        return _right(
            _("{count} tokens: {tokens}").format(
                count=len(right), tokens=tokenizer.convert_ids_to_tokens(right)
            )
        )
    if given == with_special:
        return _hint(
            _(
                "[CLS] and [SEP] are still there, at either end: pass "
                "add_special_tokens=False, or slice them off."
            )
        )
    strings = isinstance(answer, (list, tuple)) and all(isinstance(x, str) for x in answer)
    if strings and list(answer) == tokenizer.tokenize(text):
        return _hint(
            _(
                "These are the tokens. The exercise asks for their ids: "
                "tokenizer.convert_tokens_to_ids(...)."
            )
        )
    words = [text.split(), text.lower().split()]
    if given in [tokenizer.convert_tokens_to_ids(split) for split in words]:
        return _hint(
            _(
                "Splitting at spaces finds no id for some words (id {unk_token_id} "
                "means [UNK]): the tokenizer cuts them into pieces."
            ).format(unk_token_id=tokenizer.unk_token_id)
        )
    if given == [ord(c) for c in text]:
        return _hint(
            _(
                "These are the Unicode code points of the characters. A token is a "
                "word or a piece of one."
            )
        )
    return _hint(
        _(
            "{right} ids are expected. tokenizer(text)['input_ids'] gives them, "
            "with one more argument."
        ).format(right=len(right))
    )


def check_nearest_tokens(
    function: Callable[[int, int], Any], vectors: Any, token_id: int, k: int = 3
) -> Feedback:
    """Notebook 2: `function(token_id, k)` gives the `k` nearest other tokens by cosine.

    Ids, nearest first. `vectors` is the table, shape (vocabulary, d).

    >>> check_nearest_tokens(lambda i, k: [0, 1], [[1, 0], [2, 1], [0, 1]], token_id=0, k=2)
    ✗ Not yet. The token itself comes first, with similarity 1: leave it out.
    """
    result, trouble = _call(function, token_id, k)
    if trouble:
        return trouble
    matrix = np.asarray(vectors, dtype=np.float64)
    dots = matrix @ matrix[token_id]
    cosines = dots / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(matrix[token_id]))

    def top(scores: np.ndarray, *, own: bool, last: bool = False) -> list[int]:
        order = np.argsort(scores if last else -scores, kind="stable")
        return [int(i) for i in order if own or i != token_id][:k]

    given = _whole(result)
    if given is None:
        return _hint(_("Return token ids (whole numbers), not tokens or scores."))
    if given == top(cosines, own=False):
        return _right(_("Neighbours in meaning and in form: the table was learned from use."))
    if given == top(cosines, own=True):
        return _hint(_("The token itself comes first, with similarity 1: leave it out."))
    if given == top(cosines, own=False, last=True):
        return _hint(
            _(
                "These are the farthest tokens: argsort sorts in ascending order. Sort "
                "-similarity, or take from the end."
            )
        )
    if given == top(dots, own=False) or given == top(dots, own=True):
        return _hint(
            _("You ranked by dot product, which favours long vectors: divide by the lengths first.")
        )
    if sorted(given) == sorted(top(cosines, own=False)):
        return _hint(_("The right tokens in another order: put the nearest first."))
    if len(given) != k:
        return _hint(_("{k} ids are expected, you gave {given}.").format(k=k, given=len(given)))
    return _hint(
        _(
            "Normalise every row, multiply by the row of the token, sort in "
            "descending order, skip the token itself."
        )
    )


def _fewest(word: str, known: Container[str], *, marks: bool = True) -> int | None:
    """The fewest pieces that make up `word`; with `marks`, those inside it begin with `##`."""
    best: list[int | None] = [0]  # for the first 0, 1, 2, ... letters
    for end in range(1, len(word) + 1):
        fits = [
            before + 1
            for start, before in enumerate(best)
            if before is not None and ("##" * (marks and start > 0) + word[start:end] in known)
        ]
        best.append(min(fits, default=None))
    return best[-1]


def check_fewest(function: Callable[[str], Any], known: Container[str]) -> Feedback:
    """Notebook 2: `function(word)` gives the fewest pieces of `known` that make up `word`.

    None if there are none. Pieces inside a word begin with `##`.

    >>> check_fewest(lambda word: 3, {"he", "hed", "##d", "##ging"})
    ✗ Not yet. 'hedging': 2 pieces are enough, not 3. Try every first piece, not only the longest.
    """
    for word in ("hedging", "midstream", "disappoints", "uninterested", "interest"):
        right = _fewest(word, known)
        if right is None:  # another vocabulary
            continue
        result, trouble = _call(function, word)
        if trouble:
            return trouble
        value = _whole([result])
        if value is None:
            return _hint(
                _("{word!r}: give one whole number, how many pieces there are.").format(word=word)
            )
        if value[0] == right:
            continue
        if value[0] > right:
            return _hint(
                _(
                    "{word!r}: {right} pieces are enough, not {value}. Try every first "
                    "piece, not only the longest."
                ).format(word=word, right=right, value=value[0])
            )
        if value[0] == _fewest(word, known, marks=False):
            return _hint(
                _(
                    "{word!r}: inside a word only pieces with ## count, and then {right} "
                    "are needed."
                ).format(word=word, right=right)
            )
        return _hint(
            _("{word!r}: {value} pieces cannot make it up, it takes {right}.").format(
                word=word, value=value[0], right=right
            )
        )
    unknown = "a\u2d00"  # a letter that the vocabulary lacks
    try:
        result = function(unknown)
    except Exception as error:  # whatever a learner's code raises is shown to the learner
        return _hint(
            _("{unknown!r}: your function stopped with {kind}: {error}").format(
                unknown=unknown, kind=type(error).__name__, error=error
            )
        )
    if result is not None:
        return _hint(
            _("No pieces make up {unknown!r}: the result has to be None, not {result!r}.").format(
                unknown=unknown, result=result
            )
        )
    return _right(_("Greedy is fast, and nearly always as short: it fails on few real words."))


# --- notebook 3 -----------------------------------------------------------------------------------


def check_pooling(function: Callable[[Any, Any], Any]) -> Feedback:
    """Notebook 3: `function(vectors, mask)` gives the unit vector (d,) of one sentence.

    Its arguments are token vectors (n, d) and a mask (n,), 1 for a real token and 0 for padding.

    >>> check_pooling(lambda vectors, mask: vectors[0])
    ✗ Not yet. That is the vector of [CLS]. This model was trained with the mean of all tokens.
    """
    import torch

    generator = np.random.default_rng(7)
    vectors, mask = generator.normal(size=(5, 4)), np.array([1, 1, 1, 0, 0])
    result, trouble = _call(function, torch.tensor(vectors), torch.tensor(mask))
    if trouble:
        return trouble
    given = _array(result)

    def fits(vector: np.ndarray) -> bool:
        return _same(result, vector) or _same(result, vector / np.linalg.norm(vector))

    mean = vectors[:3].mean(axis=0)
    if _same(result, mean / np.linalg.norm(mean)):
        return _right(
            _("The mean of the real tokens, of length 1: just what the model's own pooling does.")
        )
    if _same(result, mean):
        return _hint(_("The mean is right, its length is not 1 yet: divide by the Euclidean norm."))
    if fits(vectors[0]):
        return _hint(
            _("That is the vector of [CLS]. This model was trained with the mean of all tokens.")
        )
    if fits(vectors.mean(axis=0)):
        return _hint(
            _(
                "The padding was averaged in: multiply by the mask, and divide by the "
                "number of real tokens."
            )
        )
    if fits(vectors[:3].sum(axis=0) / 5) or fits(vectors[:3].sum(axis=0)):
        return _hint(_("The direction is right, the length is not: divide by the norm at the end."))
    if fits(vectors[:3].max(axis=0)) or fits(vectors.max(axis=0)):
        return _hint(_("That is max pooling. Take the mean."))
    if given is not None and given.shape == (5,):
        return _hint(
            _(
                "One number per token: you averaged over the wrong axis. Average over "
                "the tokens, axis 0."
            )
        )
    return _hint(
        _(
            "Sum the vectors whose mask is 1, divide by how many there are, then "
            "by the Euclidean norm."
        )
    )


def check_head(answer: Any, attention: Sequence[Any], row: int, column: int) -> Feedback:
    """Notebook 3: the (layer, head), from 1, whose token `row` gives the most to token `column`.

    `attention` holds one array per layer, shape (1, heads, tokens, tokens).

    >>> check_head((1, 1), [[[[[0.9, 0.1], [0.2, 0.8]], [[0.2, 0.8], [0.3, 0.7]]]]], 0, 1)
    ✗ Not yet. That head gives it 0.10; another gives more. Compare all of them.
    """
    if answer is ...:
        return not_started()
    layers = np.concatenate([np.asarray(layer, dtype=float) for layer in attention])

    def best(weights: np.ndarray) -> list[int]:
        flat = np.unravel_index(int(weights.argmax()), weights.shape)
        return [int(number) + 1 for number in flat]

    towards = layers[:, :, row, column]
    right, given = best(towards), _whole(answer)
    if given is None or len(given) != 2:
        return _hint(_("Give two whole numbers: (layer, head)."))
    if given == right:
        return _right(
            _("Layer {right}, head {right_2}: a weight of {towards:.2f}.").format(
                right=right[0], right_2=right[1], towards=towards.max()
            )
        )
    if [number + 1 for number in given] == right:
        return _hint(_("You counted from 0. Layers and heads are counted from 1 here."))
    if given == best(layers[:, :, column, row]):
        return _hint(_("Rows and columns are swapped: the row is the token that attends."))
    if given == right[::-1]:
        return _hint(_("The layer comes first, then the head."))
    inside = all(1 <= n <= most for n, most in zip(given, towards.shape, strict=True))
    if not inside:
        return _hint(
            _("There are {shape} layers with {shape_2} heads each.").format(
                shape=towards.shape[0], shape_2=towards.shape[1]
            )
        )
    value = towards[given[0] - 1, given[1] - 1]
    return _hint(
        _("That head gives it {value:.2f}; another gives more. Compare all of them.").format(
            value=value
        )
    )


#: The six sentences of exercise 3, in their order: is their `interest` the bank's?
SENSES = (False, True, False, True, False, True)


def check_senses(
    answer: Any, truth: Sequence[bool] = SENSES, first_rule: Sequence[bool] | None = None
) -> Feedback:
    """Notebook 3: for each sentence, whether `interest` is the bank's (True) or the mind's (False).

    `first_rule` is what comparing whole sentences would answer.

    >>> check_senses([True, False], truth=[False, True])
    ✗ Not yet. Exactly the other way round: True means that the bank's `interest` is the nearer one.
    """
    if answer is ...:
        return not_started()
    numbers = _array(answer)
    if numbers is None or not np.isin(numbers, (0, 1)).all():
        return _hint(_("Give a list of True and False, one for each sentence."))
    given = [bool(value) for value in numbers.reshape(-1)]
    truth = [bool(value) for value in truth]
    if len(given) != len(truth):
        return _hint(
            _("{truth} answers are expected, you gave {given}.").format(
                truth=len(truth), given=len(given)
            )
        )
    if given == truth:
        return _right(_("The output vectors of one and the same token tell its two senses apart."))
    if given == [not value for value in truth]:
        return _hint(
            _(
                "Exactly the other way round: True means that the bank's `interest` is "
                "the nearer one."
            )
        )
    if len(set(given)) == 1:
        return _hint(
            _(
                "All the same: input vectors cannot tell the senses apart. Take the "
                "output vectors of the token `interest`."
            )
        )
    if first_rule is not None and given == [bool(value) for value in first_rule]:
        return _hint(
            _("You compared sentence vectors. Compare the vectors of the token `interest` itself.")
        )
    wrong = sum(a != b for a, b in zip(given, truth, strict=True))
    return _hint(
        _(
            "{wrong} of {truth} are wrong. Compare each `interest` with the two "
            "from the lesson, and take the nearer."
        ).format(wrong=wrong, truth=len(truth))
    )


# --- notebook 4 -----------------------------------------------------------------------------------


def check_own_mean(function: Callable[[Any, Any], Any]) -> Feedback:
    """Notebook 4: `function(states, shares)` drops what most documents hold.

    It gives the mean, scaled to length 1, of those token vectors whose share is below 0.5.

    >>> check_own_mean(lambda states, shares: states.mean(axis=0))
    ✗ Not yet. That is the mean of all tokens. Keep only those whose share is below 0.5.
    """
    states = np.array([[4.0, 0.0, 1.0, 2.0], [0.0, 3.0, 0.0, 1.0], [0.0, 1.0, 2.0, 2.0]])
    shares = np.array([0.9, 0.1, 0.3])
    result, trouble = _call(function, states, shares)
    if trouble:
        return trouble
    vector = _array(result)
    if vector is None or vector.shape != (4,) or not np.isfinite(vector).all():
        return _hint(_("The result has to be one vector, as long as a token's."))
    direction, kept = unit(vector)[0], shares < 0.5

    def along(*others: np.ndarray) -> bool:
        return any(_same(direction, unit(other)[0], 1e-6) for other in others)

    if along(states[kept].sum(axis=0)):
        if abs(np.linalg.norm(vector) - 1) < 1e-6:
            return _right(_("Two of the three tokens are kept, and the vector has length 1."))
        return _hint(_("The right tokens; now divide the vector by its length: np.linalg.norm."))
    if along(states.sum(axis=0)):
        return _hint(_("That is the mean of all tokens. Keep only those whose share is below 0.5."))
    if along(states[~kept].sum(axis=0)):
        return _hint(_("These are the tokens that most documents hold. Keep the others."))
    if along((1 - shares) @ states, (0.2 + shares) ** -2.8 @ states):
        return _hint(_("Here tokens are not weighed but kept or dropped: states[shares < 0.5]."))
    return _hint(_("Choose rows with a condition, states[shares < 0.5], then take their mean."))


def check_hurtful(model: Any, texts: Any, question: Any, relevant: Any) -> Feedback:
    """Notebook 4: a collection on which the right context hurts.

    Without a context a relevant text answers `question` first, or ties with the first; in the
    context of `texts` another text does.

    Args:
        model: the small model.
        relevant: set of the positions of the texts that answer the question.
    """
    if any(part is ... for part in (texts, question, relevant)):
        return not_started()
    try:
        texts = check_texts(texts)
        (question,) = check_texts([question])
    except Exception as error:  # a learner may give anything, and anything may break here
        return _hint(
            _("texts has to be a list of texts, question one text: {error}").format(error=error)
        )
    try:
        wanted = sorted(set(_whole(list(relevant)) or []))
    except Exception:  # nothing that can be listed
        wanted = []
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(texts):
        return _hint(_("relevant has to be a set of positions in texts, counted from 0."))
    others = sorted(set(range(len(texts))) - set(wanted))
    if not others:
        return _hint(_("Every text is relevant, so no ranking can be wrong. Add one that is not."))

    def first(context: Any) -> int:
        asked, found = model.encode_queries([question], context), model.encode_documents
        scores = np.asarray(found(texts, context)) @ np.asarray(asked)[0]
        right, wrong = (max(places, key=scores.__getitem__) for places in (wanted, others))
        return right if scores[right] > scores[wrong] - 1e-6 else wrong

    try:
        plain, contextual = first(None), first(model.embed_context(texts))
    except Exception as error:
        return _hint(_("The model cannot rank this: {error}").format(error=error))
    if plain not in wanted:
        return _hint(
            _(
                "MiniLM gets it wrong already, so the context cannot be blamed: "
                "without a context text {plain} comes first."
            ).format(plain=plain)
        )
    if contextual not in wanted:
        return _right(
            _("Without a context text {plain} comes first, in context text {contextual}.").format(
                plain=plain, contextual=contextual
            )
        )
    return _hint(
        _(
            "Text {contextual} still comes first in context. What the texts share "
            "is weighed down: let the question ask for just that, and add a text "
            "that shares only the small words."
        ).format(contextual=contextual)
    )


def check_verdict(answer: Any, gap: Any, systems: Mapping[str, Any]) -> Feedback:
    """Notebook 4: is the right context better than MiniLM by R@10, judged by a paired interval?

    Args:
        answer: "better", "worse" or "cannot tell".
        gap: mean and interval of the difference, from `retrieval.bootstrap`.
        systems: from "MiniLM" and "right context" to a value per question and measure, as
            `retrieval.measure` gives them.
    """
    if answer is ...:
        return not_started()
    mean, low, high = (_number(getattr(gap, name, None)) for name in ("mean", "low", "high"))
    if mean is None or low is None or high is None:
        return _hint(_("`gap` is no interval: take what `retrieval.bootstrap` returns."))
    if mistake := _wrong_difference(mean, systems):
        return _hint(mistake)
    right = "better" if low > 0 else "worse" if high < 0 else "cannot tell"
    given = answer.strip().lower() if isinstance(answer, str) else ""
    if given not in ("better", "worse", "cannot tell"):
        return _hint(_('Answer "better", "worse" or "cannot tell".'))
    if given == right:
        where = _("contains 0") if right == "cannot tell" else _("lies on one side of 0")
        return _right(
            _("The interval [{low:.3f}, {high:.3f}] {where}.").format(
                low=low, high=high, where=where
            )
        )
    if right == "cannot tell":
        return _hint(
            _(
                "The mean has a sign, but the interval contains 0: other questions of "
                "the same kind might reverse it."
            )
        )
    if given == "cannot tell":
        return _hint(
            _(
                "Does the interval contain 0? If not, the sign is settled for "
                "questions of this kind."
            )
        )
    return _hint(
        _("The difference is right context minus MiniLM: above 0, the right context is better.")
    )


def _wrong_difference(mean: float, systems: Mapping[str, Any]) -> str | None:
    """What is wrong with a mean that should be that of right context minus MiniLM by R@10."""

    def is_mean_of(values: Any) -> bool:
        wanted = float(np.mean(values))
        return any(np.isclose(mean, scale * wanted, rtol=0, atol=1e-9) for scale in (1, 100))

    right, plain = systems["right context"], systems["MiniLM"]
    if is_mean_of(right["R@10"] - plain["R@10"]):
        return None
    if is_mean_of(plain["R@10"] - right["R@10"]):
        return _("That is MiniLM minus the right context. Subtract the other way round.")
    for measure in ("nDCG@10", "RR@10"):
        if is_mean_of(right[measure] - plain[measure]):
            return _("That is the difference by {measure}; the question is about R@10.").format(
                measure=measure
            )
    for name, table in systems.items():
        if any(is_mean_of(table[measure]) for measure in table):
            return _(
                "That is the interval of one system ({name}), which says nothing about a "
                "difference. Subtract the values of MiniLM, question by question."
            ).format(name=name)
    return _("That is not the difference of right context and MiniLM by R@10.")
