"""Lays down the files every client copies: sizes around the interesting limits, and a tree of awkward names."""

import pathlib
import random
import sys

MIB = 1024 * 1024


def main(target: pathlib.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    seeded = random.Random(20261122)
    for name, size in [("empty", 0), ("five", 5), ("inline-64k", 65536), ("over-64k", 65537), ("5MiB", 5 * MIB), ("100MiB", 100 * MIB)]:
        path = target / name
        if not path.exists() or path.stat().st_size != size:
            path.write_bytes(seeded.randbytes(size))
    tree = target / "tree"
    words = ["plain", "with space", "plus+plus", "percent%41", "umlaut-äöü", "日本語", "a&b=c", "quote'quote", "tilde~", "(brackets)"]
    for number in range(200):
        word = words[number % len(words)]
        folder = tree / f"dir {number % 7}" / word
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{word} {number}.bin"
        if not path.exists():
            path.write_bytes(seeded.randbytes(seeded.randrange(0, 20_000)))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
