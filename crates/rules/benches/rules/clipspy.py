"""What the benchmark `rules` measures, by clipspy: one JSON object with seconds of processor time.

Arguments: the programs' folder, how many facts, how many calls.
"""

import json
import sys
import time
from pathlib import Path

import clips

FOLDER, FACTS, CALLS = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

TEMPLATE = """(deftemplate reading
  (slot sensor (type SYMBOL)) (slot celsius (type FLOAT)) (slot place (type STRING))
  (slot at (type INTEGER)) (multislot tags))"""


def timed(work):
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def program(name):
    env = clips.Environment()
    env.load(str(FOLDER / f"{name}.clp"))
    env.reset()
    seconds, fired = timed(env.run)
    return {"seconds": seconds, "count": fired}


def facts():
    env = clips.Environment()
    env.build(TEMPLATE)
    template = env.find_template("reading")
    sensor, tags = clips.Symbol("boiler"), (clips.Symbol("hot"), clips.Symbol("new"))

    def fill():
        for n in range(FACTS):
            template.assert_fact(sensor=sensor, celsius=n / 2, place="cellar", at=n, tags=tags)

    def read():
        return sum(len(dict(fact)) for fact in template.facts())

    filled, _ = timed(fill)
    seconds, slots = timed(read)
    assert slots == 5 * FACTS, slots
    return {"assert": filled, "read": seconds}


def calls():
    env = clips.Environment()
    env.define_function(lambda n: n + 1, "host")
    env.build(f"(deffunction many () (loop-for-count (?i 1 {CALLS}) (host ?i)))")
    seconds, _ = timed(lambda: env.eval("(many)"))
    return seconds


def births():
    count = 50
    seconds, _ = timed(lambda: [clips.Environment() for _ in range(count)])
    return seconds / count


print(json.dumps({
    "join": program("join"),
    "modify": program("modify"),
    "facts": facts(),
    "calls": calls(),
    "birth": births(),
}))
