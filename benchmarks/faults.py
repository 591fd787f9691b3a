"""Kill the processes of a run of digits at random moments, start them again each time, and compare
what is there in the end with an uninterrupted run.

Processes are forked, killed with signal 9, and make the call that `expint sample` makes. A round
begins with all processes and ends when each was killed, at moments of its own; a run that is
finished before all kills are done is checked, and another begun.

    OMP_NUM_THREADS=1 python benchmarks/faults.py [--kills 100] [--num 2000] [--processes 1,2,4]
"""

import multiprocessing
import random
import tempfile
import threading
import time
from pathlib import Path

import click
import torch
from tqdm.auto import tqdm

import expint
from diffusion_adapters import load
from diffusion_adapters.runs import RunFolder, draw

SHARD, BATCH, NFE = 20, 10, 12


def drawn(folder, num):
    """Draw, or continue, the run."""
    model = load("digits-edm")
    labels = [i % model.label_dim for i in range(num)]
    draw(
        model, num, nfe=NFE, out=folder, labels=labels, shard=SHARD, batch=BATCH, merge=True,
        progress=False,
    )  # fmt: skip


def checksums(folder):
    """Of all files of a run."""
    return {name: record["sha256"] for name, record in RunFolder(folder).done.items()}


def check(folder, whole, num):
    """Nothing is missing, double, damaged, different or left over."""
    run = RunFolder(folder)
    assert not run.damaged() and run.count == num
    assert checksums(folder) == checksums(whole)
    assert (folder / "samples.npz").read_bytes() == (whole / "samples.npz").read_bytes()
    seeds = [seed for part in run for seed in part["seeds"].tolist()]
    assert seeds == list(expint.noise.per_sample(0, num))
    names = [sorted(str(file.relative_to(at)) for file in at.rglob("*")) for at in (folder, whole)]
    assert names[0] == names[1], set(names[0]) ^ set(names[1])


def started(folder, num, count):
    """Processes that draw."""
    context = multiprocessing.get_context("fork")
    found = [context.Process(target=drawn, args=(folder, num)) for _ in range(count)]
    for process in found:
        process.start()
    return found


def killed(processes, longest, chance):
    """Kill each after a time of its own; how many still ran."""
    count = 0
    moments = sorted((chance.uniform(0.0, longest), process) for process in processes)
    began = time.perf_counter()
    for moment, process in moments:
        process.join(max(0.0, began + moment - time.perf_counter()))
        count += process.is_alive()
        process.kill()
        process.join()
    return count


@click.command()
@click.option("--kills", default=100, help="For each number of processes.")
@click.option("--num", default=2000, help="Samples of a run.")
@click.option("--processes", default="1,2,4", help="Numbers of processes, with commas.")
@click.option("--seed", default=0, help="Of the moments.")
def main(kills, num, processes, seed):
    """Print what was found; a fault is an AssertionError."""
    torch.set_num_threads(1)
    # tqdm's own lock is shared by forked processes: one that is killed while it holds it would
    # stop all others.
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    with tempfile.TemporaryDirectory() as place:
        whole, began = Path(place, "whole"), time.perf_counter()
        drawn(whole, num)
        seconds = time.perf_counter() - began
        print(f"uninterrupted: {num} samples in {seconds:.1f} s")
        for count in map(int, processes.split(",")):
            chance, done, runs, partial = random.Random(f"{seed} {count}"), 0, 0, 0
            while done < kills:
                runs, folder = runs + 1, Path(place, f"{count} {runs}")
                while done < kills and not (folder / "samples.npz").exists():
                    # So that the shards of a run last for its kills.
                    longest = 2.0 * seconds / kills + 0.2
                    done += killed(started(folder, num, count), longest, chance)
                    partial = max(partial, len(list(folder.rglob(".*.part"))))
                last = started(folder, num, count)
                for process in last:
                    process.join()
                assert not any(process.exitcode for process in last)
                check(folder, whole, num)
            print(
                f"{count} processes: {done} kills in {runs} runs, all {num} samples once, bit for "
                f"bit; up to {partial} temporary files left by kills, none at the end"
            )


if __name__ == "__main__":
    main()
