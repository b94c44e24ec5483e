"""Vectors of words that stand in similar places: skip-gram with negative sampling (Mikolov et al. 2013), in NumPy.

    python examples/word_vectors.py
    python examples/word_vectors.py --words list,left,async --text book.txt

The text is Python's own reference, which the standard library brings as `pydoc_data.topics`: 60,000 words. The script
prints the loss, and then the nearest neighbours of some words: near "left", for example, are "right" and "operand".

A batch has gradients for a few words alone, as `fastoptim.Rows`: those of a word are summed; other words cost nothing.
"""

import re
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

import fastoptim

WORDS = "left,class,exception,integer,import,async,string,keys,true,two"


def encoded(text, least):
    """The words that occur at least so often, the most frequent first, and the text as their numbers."""
    words = re.findall(r"[a-z]{2,}", text.lower())
    vocabulary = [word for word, count in Counter(words).most_common() if count >= least]
    number = {word: i for i, word in enumerate(vocabulary)}
    return vocabulary, np.array([number[word] for word in words if word in number])


def pairs(text, frequency, window, rng):
    """All pairs of neighbours `(n, 2)` in random order. Frequent words are left out at random, as in the paper."""
    text = text[rng.random(len(text)) < np.sqrt(1e-3 / frequency[text])]
    forward = [np.stack([text[:-i], text[i:]], axis=1) for i in range(1, window + 1)]
    both = np.concatenate(forward + [pair[:, ::-1] for pair in forward])
    return rng.permutation(both)


def gradients(vectors, word, others):
    """The loss and its gradients: others[:, 0] are true neighbours, the further columns are words drawn at random."""
    u, v = vectors["words"][word], vectors["contexts"][others]
    probability = 1 / (1 + np.exp(-np.einsum("nd,nkd->nk", u, v)))
    error = probability.copy()
    error[:, 0] -= 1
    of_words, of_contexts = np.einsum("nk,nkd->nd", error, v), error[:, :, None] * u[:, None, :]
    contexts = fastoptim.Rows(others.ravel(), of_contexts.reshape(-1, u.shape[1]))
    grads = {"words": fastoptim.Rows(word, of_words), "contexts": contexts}
    return -np.log(1 - abs(error) + 1e-7).sum() / len(word), grads


def neighbours(vectors, vocabulary, word, count):
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = directions @ directions[vocabulary.index(word)]
    return [vocabulary[i] for i in np.argsort(-cosines)[1 : count + 1]]


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--text", type=Path, help="a file to learn from; by default Python's reference")
    parser.add_argument("--words", default=WORDS, help="whose neighbours are printed")
    parser.add_argument("--epochs", type=int, default=8, help="times through the text")
    parser.add_argument("--dimensions", type=int, default=64, help="numbers in a vector")
    parser.add_argument("--window", type=int, default=5, help="how far away a neighbour may be")
    parser.add_argument("--negatives", type=int, default=5, help="random words beside each true neighbour")
    parser.add_argument("--least", type=int, default=10, help="how often a word has to occur")
    parser.add_argument("--batch", type=int, default=1024, help="pairs in a step")
    parser.add_argument("--lr", type=float, default=0.005, help="Adam's learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    options = parser.parse_args(arguments)
    text = options.text.read_text(encoding="utf-8") if options.text else " ".join(topics.values())
    vocabulary, text = encoded(text, options.least)
    print(f"{len(text):,} words, {len(vocabulary):,} different")
    rng = np.random.default_rng(options.seed)
    frequency = np.bincount(text) / len(text)
    table = np.cumsum(frequency**0.75)  # random words are drawn with this power of their frequency
    words = np.float32(rng.uniform(-0.5, 0.5, (len(vocabulary), options.dimensions)) / options.dimensions)
    vectors = {"words": words, "contexts": np.zeros_like(words)}
    opt = fastoptim.Adam(lr=options.lr, grad_scale=options.batch)
    for epoch in range(1, options.epochs + 1):
        near = pairs(text, frequency, options.window, rng)
        batches = near[: len(near) // options.batch * options.batch].reshape(-1, options.batch, 2)
        total = 0.0
        for word, true in np.moveaxis(batches, 2, 1):
            drawn = np.searchsorted(table, rng.random((options.batch, options.negatives)) * table[-1])
            loss, grads = gradients(vectors, word, np.column_stack([true, drawn]))
            opt.update(vectors, grads)
            total += loss
        print(f"epoch {epoch}   loss {total / len(batches):.3f}", flush=True)
    asked = [word for word in options.words.split(",") if word in vocabulary]
    found = {word: neighbours(vectors["words"], vocabulary, word, 8) for word in asked}
    for word, near in found.items():
        print(f"{word:>12}: {', '.join(near)}")
    return total / len(batches), found


if __name__ == "__main__":
    main()
