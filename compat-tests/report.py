"""Writes docs/compat.md from the outcomes of a full run: compat-tests/run.sh --full calls it."""

import datetime
import sys


def main(results: str, versions: str) -> None:
    rows = [line.rstrip("\n").split("\t") for line in open(results)]
    named = dict(line.rstrip("\n").split("\t") for line in open(versions))
    clients = list(dict.fromkeys(row[0] for row in rows))
    print("# Other people's clients\n")
    print(f"Written by `compat-tests/run.sh --full` on {datetime.date.today()}; not by hand. Each client runs with its default settings and checksums.")
    print("A line is one promise; the scripts are in `compat-tests/`.\n")
    print("| client | version | http | https |")
    print("|---|---|---|---|")
    outcome = {(row[0], row[1], row[2]): row[3] for row in rows}
    for client in clients:
        def count(scheme):
            all_of = [o for (c, s, _), o in outcome.items() if c == client and s == scheme]
            return f"{all_of.count('ok')} of {len(all_of)}"
        print(f"| {client} | {named.get(client, '').split(' Python/')[0].split(' (')[0].split(' compiled')[0]} | {count('http')} | {count('https')} |")
    for client in clients:
        print(f"\n## {client}\n")
        print("| promise | http | https |")
        print("|---|---|---|")
        for promise in dict.fromkeys(row[2] for row in rows if row[0] == client):
            cells = [outcome.get((client, scheme, promise), "not run") for scheme in ("http", "https")]
            print(f"| {promise} | {cells[0]} | {cells[1]} |")
    failures = [row for row in rows if row[3] != "ok"]
    if failures:
        print("\n## What fails\n")
        for client, scheme, promise, _, reason in failures:
            print(f"* {client} over {scheme}: {promise}: {reason}")


main(*sys.argv[1:])
