"""Stores numbers as tasks and prints their squares as they come.

Whoever serves the workspace squares them: squares.R, or anybody who fetches `task` and stores
`N N*N` to `result`. Usage: squares.py [HOST [PORT [WORKERS]]]
"""

import sys

from nws.client import NetWorkSpace

HOST = sys.argv[1] if len(sys.argv) > 1 else 'localhost'
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 8765
WORKERS = int(sys.argv[3]) if len(sys.argv) > 3 else 1
COUNT = 10

ws = NetWorkSpace('squares', HOST, PORT)
for n in range(COUNT):
    ws.store('task', str(n))
for _ in range(COUNT):
    n, square = ws.fetch('result').split()
    print('%s squared is %s' % (n, square))
for _ in range(WORKERS):
    ws.store('task', 'stop')
# The workspace goes with its owner, which is this program: it waits until no worker needs it.
for _ in range(WORKERS):
    ws.fetch('bye')
