"""One question to the small contextual model, in a context of 512 texts."""

from __future__ import annotations

import itertools
import sys

from helpers import PROJECT_ROOT, cde, retrieval
from helpers.artifacts import load_encoder
from helpers.cde.mini import TokenStates

from .harness import Row, Spread, part, timed
from .texts import questions

REPEATS = 100


def run() -> list[Row]:
    model, basic = cde.load_mini_cde(), load_encoder()
    documents = retrieval.texts(retrieval.load_beir(PROJECT_ROOT / "data" / "money")[0])
    states: TokenStates = model.second_stage_model.tokens
    context = model.embed_context(documents, size=512)
    turn = itertools.cycle(questions())

    def forget() -> None:
        states.forget()  # or a question would come from the cache

    def in_context() -> None:
        model.encode_queries([next(turn)], context)

    def from_scratch() -> None:
        model.encode_queries([next(turn)], model.embed_context(documents, size=512))

    def plain() -> None:
        basic.encode([next(turn)])

    for warm in (in_context, plain):
        timed(warm, repeats=10, before=forget)
    ours, theirs = [], []
    for _ in range(REPEATS):  # in turn, so that both meet the same load
        ours += timed(in_context, repeats=1, before=forget).values
        theirs += timed(plain, repeats=1).values
    ours_ms, theirs_ms, whole_ms = (
        Spread(tuple(1000 * second for second in seconds))
        for seconds in (ours, theirs, timed(from_scratch, repeats=5, before=forget).values)
    )
    return [
        Row(
            what="mini CDE, one query in a context of 512",
            against="the context embedded for each query",
            ours=ours_ms,
            theirs=whole_ms,
            unit="ms",
            floor=4,
            goal=20,
        ),
        Row(
            what="the same query",
            against="a plain MiniLM query",
            ours=ours_ms,
            theirs=theirs_ms,
            unit="ms",
            floor=1.5,
            goal=1.2,
            at_most=True,
        ),
    ]


if __name__ == "__main__":
    sys.exit(part(run))
