"""What a run in shards costs: peak memory against the number of samples, the efficiency of several
processes, and the time beside that of the bare network.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py [--model mnist-edm] [--num 512]

The bare network is timed inside the run, call by call, so that both see the same machine. Memory is
the largest resident size of a process of its own.
"""

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import click
import torch

from diffusion_adapters import load
from diffusion_adapters.families.adapter import NetworkAdapter
from diffusion_adapters.runs import draw

FEW, MANY = 1000, 100_000


def drawn(folder, name, num, nfe, batch, device="cpu"):
    """Draw a run; seconds, and those of them in the network."""
    torch.set_num_threads(1)
    model, inside = load(name).to(device), 0.0
    labels = [i % model.label_dim for i in range(num)] if model.label_dim else None
    original = NetworkAdapter.__call__

    def timed(self, x, t):
        nonlocal inside
        wait(device)
        began = time.perf_counter()
        output = original(self, x, t)
        wait(device)
        inside += time.perf_counter() - began
        return output

    NetworkAdapter.__call__ = timed
    began = time.perf_counter()
    draw(
        model, num, nfe=nfe, out=folder, labels=labels, batch=batch, device=device,
        shard=max(batch, num // 100), progress=False,
    )  # fmt: skip
    total = time.perf_counter() - began
    NetworkAdapter.__call__ = original
    return total, inside


def wait(device):
    """For what a GPU still does."""
    if device != "cpu":
        torch.cuda.synchronize()


def measured(queue, *arguments):
    """In a process of its own: seconds, those in the network, and the peak of memory in MiB."""
    seconds = drawn(*arguments)
    queue.put((*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def in_processes(count, *arguments):
    """What each of several processes on one run measures."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    found = [context.Process(target=measured, args=(queue, *arguments)) for _ in range(count)]
    for process in found:
        process.start()
    results = [queue.get() for _ in found]
    for process in found:
        process.join()
    return results


@click.command()
@click.option("--model", default="mnist-edm", help="A shipped network.")
@click.option("--num", default=512, help="Samples, where time is measured.")
@click.option("--nfe", default=20, help="Network evaluations.")
@click.option("--batch", default=64, help="Samples at a time.")
@click.option("--device", default="cpu", help="Where.")
@click.option("--memory", is_flag=True, help="Peak memory too: draws 101,000 digits.")
@click.option("--processes", default=2, help="How many share a run.")
def main(model, num, nfe, batch, device, memory, processes):
    """Print the figures."""
    with tempfile.TemporaryDirectory() as place:
        ((total, inside, _),) = in_processes(1, Path(place, "1"), model, num, nfe, batch, device)
        print(
            f"{model}, {num} samples, {nfe} evaluations: {num / total:.2f} samples/s, of the bare "
            f"network {num / inside:.2f}; overhead {100 * (total / inside - 1):.1f} %"
        )
        # The run of one, then as many samples for each of several: the network's own rate is that
        # of a core that it has for itself.
        shared = in_processes(
            processes, Path(place, "2"), model, processes * num, nfe, batch, device
        )
        longest = max(seconds for seconds, _, _ in shared)
        print(
            f"{processes} processes: {processes * num / longest:.2f} samples/s, efficiency "
            f"{total / longest:.2f}"
        )
        if memory:
            peaks = [
                in_processes(1, Path(place, str(n)), "digits-edm", n, 2, batch, "cpu")[0][2]
                for n in (FEW, MANY)
            ]
            more = 100 * (peaks[1] / peaks[0] - 1)
            print(
                f"peak memory: {peaks[0]:.0f} MiB for {FEW} samples, {peaks[1]:.0f} MiB for {MANY},"
                f" {more:+.1f} %"
            )


if __name__ == "__main__":
    main()
