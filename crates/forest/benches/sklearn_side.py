"""scikit-learn's side of the benchmark `forest`: sklearn_side.py FOLDER ROWS COLUMNS CLASSES SEED."""

import json
import pickle
import sys
import time

import numpy
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

folder, rows, columns, classes, seed = sys.argv[1], *map(int, sys.argv[2:6])
TREES, JOBS = 100, 2


def memory(what):
    """Kilobytes."""
    for line in open("/proc/self/status"):
        if line.startswith(what):
            return int(line.split()[1])


x = numpy.fromfile(f"{folder}/x").reshape(-1, columns)
y = numpy.fromfile(f"{folder}/y")
if classes:
    y = y.astype(int)
    model = RandomForestClassifier(TREES, n_jobs=JOBS, random_state=seed)
else:
    # A third of the columns at a cut, as ours: scikit-learn's own default is all of them.
    model = RandomForestRegressor(TREES, n_jobs=JOBS, random_state=seed, max_features=1 / 3)
# Peaks of what came before are none of the fit's.
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = memory("VmRSS:")
cpu, began = time.process_time(), time.perf_counter()
model.fit(x[:rows], y[:rows])
fit_cpu, fit = time.process_time() - cpu, time.perf_counter() - began
peak = memory("VmHWM:") - before
cpu = time.process_time()
(model.predict_proba if classes else model.predict)(x[rows:])
predict = time.process_time() - cpu
cpu = time.process_time()
for _ in range(20):
    model.predict(x[rows : rows + 1])
one = (time.process_time() - cpu) / 20
print(
    json.dumps(
        {
            "fit_cpu_s": fit_cpu,
            "fit_s": fit,
            "predict_cpu_ms": predict * 1e3,
            "one_us": one * 1e6,
            "peak_mb": peak / 1e3,
            "model_kb": len(pickle.dumps(model)) / 1e3,
            "score": model.score(x[rows:], y[rows:]),
        }
    )
)
