"""A small vocabulary and corpus, and what a folder holds, for tests of all kinds."""

import random

PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] . , the a ship bread harbour water old new is was in of and "
    "river town ##s ##ed ##er"
).split()
WORDS = [*PIECES[5:22], "ships", "older", "towns", "Rivers", "unknown"]


def write_vocabulary(folder):
    """Writes vocab.txt; returns its path."""
    path = folder / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n")
    return str(path)


def document(stream, lines):
    """Lines of words, a newline after each."""
    return "".join(
        " ".join(stream.choices(WORDS, k=stream.randint(1, 30))) + "\n" for _ in range(lines)
    )


def write_corpus(folder, sizes, seed=0):
    """Writes files with so many bytes each, of documents with blank lines between.

    Args:
        folder: the folder, which is made.
        sizes: number of bytes of each file, roughly.
        seed: of the words.

    Returns:
        The folder's path.
    """
    stream = random.Random(seed)
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        texts, written = [], 0
        while written < size:
            texts.append(document(stream, stream.randint(1, 40)))
            written += len(texts[-1])
        (folder / f"part{number}.txt").write_text("\n".join(texts))
    return str(folder)


def content(folder):
    """The bytes of all files under a folder, by relative path; None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }
