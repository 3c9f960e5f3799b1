"""dask.distributed's side of the benchmark `map`: dask_side.py TASKS MILLISECONDS."""

import json
import sys
import time

import psutil
from distributed import Client, LocalCluster


def work(n, ms):
    if ms:
        time.sleep(ms / 1000)
    return n


def main():
    tasks, ms = int(sys.argv[1]), int(sys.argv[2])
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)
    client.gather(client.map(work, range(4), ms=0, pure=False))

    def cpu():
        all = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return sum(sum(p.cpu_times()[:2]) for p in all)

    before, began = cpu(), time.perf_counter()
    told = client.gather(client.map(work, range(tasks), ms=ms, pure=False))
    wall, used = time.perf_counter() - began, cpu() - before
    assert told == list(range(tasks))
    client.close()
    cluster.close()
    print(json.dumps({"wall": wall, "cpu": used}))


if __name__ == "__main__":
    main()
