#!/usr/bin/env python3
"""A rule agent, a forest and a stream of tuples at work together, and a second model that is
trained while the first one serves.

    cpe node &
    python3 examples/second_model.py        # --cpe PATH, --api HOST:PORT

Penguins are seen on the islands of the Palmer Archipelago (A. Horst, A. Hill and K. Gorman, 2020,
CC0: penguins.csv). Each sighting is a tuple. A rule agent (rules/naturalist.clp) asks a forest of 30
trees, which has learnt from 25 penguins, for the species, and puts its verdict into the space. In the
meantime it becomes known what those penguins were: a forest of 2,000 trees learns from all of them,
grown by all nodes, while sightings go on. From the moment it is there the agent asks it: nothing is
restarted, no sighting is lost, none is judged twice.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
MEASURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
FIRST, SECOND = 30, 2000  # trees
UNDER_WAY = 32  # sightings without a verdict at most
AFTER = 40  # sightings that the second model is to judge


class Mesh:
    """A node's HTTP API and its command line."""

    def __init__(self, api, program):
        self.api, self.program = api, program

    def post(self, path, body):
        request = urllib.request.Request(
            f"http://{self.api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def out(self, workspace, *fields):
        self.post(f"/v1/spaces/{workspace}/out", {"tuple": list(fields)})

    def take(self, workspace, *template):
        body = {"template": list(template), "timeout_ms": 120_000}
        return self.post(f"/v1/spaces/{workspace}/in", body)["tuple"]

    def cpe(self, *args):
        command = [self.program, *args, "--api", self.api, "--json"]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode != 0:
            sys.exit(f"{' '.join(command)}: {ran.stderr}")
        return json.loads(ran.stdout)


def train(mesh, folder, penguins, trees, *more):
    """Has the mesh learn what these penguins are."""
    path = os.path.join(folder, f"{trees}.csv")
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, penguins[0].keys())
        table.writeheader()
        table.writerows(penguins)
    args = ["--target", "species", "--out", "penguins", "--trees", str(trees), *more]
    return mesh.cpe("forest", "train", path, *args)


def see(mesh, number, penguin):
    """One sighting; what was not measured is null."""
    def known(name):
        return None if penguin[name] == "NA" else penguin[name]

    def numbers(names):
        return [known(name) and float(known(name)) for name in names]

    sighting = [known("island"), *numbers(MEASURES), known("sex"), int(penguin["year"])]
    mesh.out("field", "sighting", number, *sighting)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpe", default="cpe")
    parser.add_argument("--api", default="127.0.0.1:8766")
    args = parser.parse_args()
    mesh = Mesh(args.api, args.cpe)
    with open(os.path.join(HERE, "penguins.csv"), newline="") as file:
        penguins = list(csv.DictReader(file))
    random.Random(7).shuffle(penguins)
    known, rest = penguins[:25], penguins[25:]

    with tempfile.TemporaryDirectory() as folder:
        first = train(mesh, folder, known, FIRST)["card"]["forest"]
        with open(os.path.join(HERE, "rules", "naturalist.clp")) as file:
            rules = json.dumps({"source": file.read()})
        mesh.cpe("actor", "spawn", "rules", "naturalist", "--args", rules)

        seen, verdicts, when_asked = 0, {}, None
        by_second = 0

        def hear():
            nonlocal by_second
            verdict = mesh.take("verdicts", "verdict", *[{"?": kind} for kind in
                                ("int", "any", "float", "int")])
            _, number, species, sure, trees = verdict
            if number in verdicts:
                sys.exit(f"sighting {number} was judged twice")
            verdicts[number] = (species, sure, trees)
            by_second += trees == SECOND

        while by_second < AFTER:
            see(mesh, seen, rest[seen % len(rest)])
            seen += 1
            if seen - len(verdicts) >= UNDER_WAY or seen == 1:
                hear()
            if seen == 150:
                # By now it is known what the first hundred were; the first model serves on.
                train(mesh, folder, known + rest[:100], SECOND, "--detach")
                when_asked = seen
        while len(verdicts) < seen:
            hear()

    second = mesh.cpe("forest", "inspect", "penguins")["forest"]
    mesh.cpe("actor", "stop", "naturalist")
    doubts = 0
    while mesh.post("/v1/spaces/verdicts/inp", {"template": ["look-again", {"?": "int"},
                    {"?": "any"}, {"?": "float"}]})["tuple"]:
        doubts += 1

    def right(trees):
        """On penguins that neither model has learnt from."""
        own = [(n, v) for n, v in verdicts.items() if v[2] == trees and n % len(rest) >= 100]
        good = sum(v[0] == rest[n % len(rest)]["species"] for n, v in own)
        return {"verdicts": len(own), "right": round(good / len(own), 4)}

    served = sum(n >= when_asked and v[2] == FIRST for n, v in verdicts.items())
    print(json.dumps({
        "sightings": seen, "verdicts": len(verdicts), "look_again": doubts,
        "first": {"forest": first, **right(FIRST)},
        "second": {"forest": second, **right(SECOND)},
        "by_the_first_while_the_second_was_trained": served,
    }, indent=2))


main()
