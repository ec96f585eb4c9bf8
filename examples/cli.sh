#!/usr/bin/env bash
# A walk on the command line: look at a fact, switch off what carries it, rank many facts, erase one, check the result.
# Needs knowscope-tui on the PATH (`. .venv/bin/activate`); writes to a folder of its own and removes it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

prompt="The capital of France is"

echo "# What does the model say, and which features make it say so?"
knowscope-tui probe "$prompt" --kinds features --top 5

echo
echo "# Switch the strongest one off."
unit=$(knowscope-tui probe "$prompt" --kinds features --top 1 --json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["units"][0]["unit"])')
knowscope-tui ablate "$prompt" --answer Paris --unit "$unit"

echo
echo "# What does each other feature do once that one is off? Which few take the answer away?"
knowscope-tui probe "$prompt" --answer Paris --kinds features --beside "$unit" --top 3
knowscope-tui greedy "$prompt" --answer Paris

echo
echo "# The same for many facts at once: a table with a row for each unit of each fact."
knowscope-tui demo facts --private > private.jsonl
knowscope-tui rank private.jsonl --limit 4 --out ranks.parquet

echo
echo "# Erase a fact about an invented person from the weights, and save the model without it."
head -1 private.jsonl > one.jsonl
knowscope-tui edit one.jsonl --out edited

echo
echo "# Does the checkpoint hold what its record says? What has become of other people's facts?"
sed -n '2,40p' private.jsonl > others.jsonl
knowscope-tui verify edited --facts one.jsonl
