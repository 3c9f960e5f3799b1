"""Compares `cpe forest` with scikit-learn's random forests; `cargo xtask accuracy` calls it.

Six public data sets come with Python packages. Both learn from the same rows and are judged on the
same others: five folds, ten times (three times for more than 1,000 rows, where chance has less to
say). What is compared is accuracy for classes and R2 for numbers, with defaults but for the trees
(100) and, for numbers, the columns tried at a cut (a third).

A data set passes if CPE is worse by at most half a point or one standard error of the differences
between folds, whichever is more.
"""

import csv
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from palmerpenguins import load_penguins
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

FOLDS, TREES = 5, 100


def bundled(load):
    data = load()
    columns = [str(name).replace(",", " ") for name in data.feature_names]
    return columns, [list(row) for row in data.data], list(data.target)


def penguins():
    frame = load_penguins()
    target = list(frame.pop("species"))
    rows = [[None if v != v else v for v in row] for row in frame.itertuples(index=False)]
    return list(frame.columns), rows, target


DATA = [
    ("iris", True, lambda: bundled(datasets.load_iris)),
    ("wine", True, lambda: bundled(datasets.load_wine)),
    ("digits", True, lambda: bundled(datasets.load_digits)),
    ("breast cancer", True, lambda: bundled(datasets.load_breast_cancer)),
    ("penguins", True, penguins),
    ("diabetes", False, lambda: bundled(datasets.load_diabetes)),
]


def one_hot(rows):
    """What scikit-learn needs: texts as columns of 0 and 1, and NaN for what is missing."""
    columns = []
    for column in zip(*rows):
        texts = sorted({v for v in column if isinstance(v, str)})
        if texts:
            columns += [[float(v == text) for v in column] for text in texts]
        else:
            columns.append([numpy.nan if v is None else float(v) for v in column])
    return numpy.array(columns).T


def write(path, columns, rows, target):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "target"])
        for row, told in zip(rows, target):
            writer.writerow(["" if v is None else v for v in row] + [told])


def cpe(binary, folder, classes, columns, rows, target, train, test, seed):
    parts = {}
    for name, places in (("train", train), ("test", test)):
        parts[name] = folder / f"{name}.csv"
        write(parts[name], columns, [rows[p] for p in places], [target[p] for p in places])
    model = folder / "model.forest"
    task = "classify" if classes else "regress"
    subprocess.run(
        [binary, "forest", "train", parts["train"], "--target", "target", "--out", model, "--local",
         "--task", task, "--trees", str(TREES), "--seed", str(seed), "--json"],
        check=True, stdout=subprocess.DEVNULL,
    )
    told = subprocess.run(
        [binary, "forest", "evaluate", model, parts["test"], "--json"],
        check=True, capture_output=True, text=True,
    )
    score = json.loads(told.stdout)
    return score["classes"]["accuracy"] if classes else score["numbers"]["r2"]


def sklearn(classes, rows, target, train, test, seed):
    if classes:
        model = RandomForestClassifier(TREES, random_state=seed)
    else:
        model = RandomForestRegressor(TREES, max_features=1 / 3, random_state=seed)
    target = numpy.array(target)
    return model.fit(rows[train], target[train]).score(rows[test], target[test])


def compare(binary, folder, name, classes, load):
    columns, rows, target = load()
    numbers = one_hot(rows)
    parted = RepeatedStratifiedKFold if classes else RepeatedKFold
    repeats = 3 if len(rows) > 1000 else 10
    folds = parted(n_splits=FOLDS, n_repeats=repeats, random_state=1)
    ours, theirs = [], []
    for seed, (train, test) in enumerate(folds.split(numbers, target)):
        ours.append(cpe(binary, folder, classes, columns, rows, target, train, test, seed))
        theirs.append(sklearn(classes, numbers, target, train, test, seed))
    differences = numpy.array(ours) - numpy.array(theirs)
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    passed = differences.mean() >= -max(0.005, error)
    print(
        f"| {name} | {len(rows)} x {len(columns)} | {'accuracy' if classes else 'R2'} "
        f"| {numpy.mean(ours):.4f} | {numpy.mean(theirs):.4f} | {differences.mean():+.4f} "
        f"| {error:.4f} | {'yes' if passed else 'NO'} |",
        flush=True,
    )
    return passed


def main():
    binary = Path(sys.argv[1]).resolve()
    print("| data | rows x columns | measure | CPE | scikit-learn | difference | its error | within |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        passed = [compare(binary, Path(folder), *data) for data in DATA]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
