"""Says how many penguins an island has and how heavy they are: island.py ISLAND.

An example for `cpe map`, which runs it for one island a line; see docs/sleigh.md.
"""

import csv
import sys

island = sys.argv[1]
with open("penguins.csv", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["island"] == island]
grams = [float(row["body_mass_g"]) for row in rows if row["body_mass_g"] != "NA"]
if not grams:
    sys.exit(f"no penguin of {island} was weighed")
print(f"{island}: {len(rows)} penguins, {sum(grams) / len(grams):.0f} g")
