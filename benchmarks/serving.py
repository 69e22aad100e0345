"""Load test of ``dnr serve``: parallel uploads to a service of its own on the loopback address, good ones and bad ones.

    python benchmarks/serving.py RUN video.mp4 other.mkv --requests 2000 --parallel 8

One request in four is no good video: text, an empty body, a playlist, a broken form, a file cut or damaged at random,
one that is too large, a connection that ends half way. Printed are answers by status, requests a second, percentiles of
the latency of good ones, the memory of the service over time, what it left in its temporary folder, and how it ended.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil

MEGABYTES = 8.0
"""Limit of the service that is tested."""


class Answer(NamedTuple):
    """What came back: the status, 0 for a connection that was ended on purpose, -1 for none; seconds; good or bad."""

    status: int
    seconds: float
    good: bool


def bad_upload(video: bytes, rng: random.Random) -> tuple[bytes, dict[str, str]]:
    """Return a body that is no good video, and headers."""
    damaged = bytearray(video)
    for _ in range(50):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    return rng.choice(
        [
            (b"this is no video", {}),
            (b"", {}),
            (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", {}),
            (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n", form),
            (rng.randbytes(2000), form),
            (video[: rng.randrange(1, len(video))], {}),
            (bytes(damaged), {}),
            (bytes(int(MEGABYTES * 1.1e6)), {}),
        ]
    )


def send(port: int, video: bytes, rng: random.Random, bad_share: float) -> Answer:
    """Send one request."""
    start = time.perf_counter()
    good = rng.random() >= bad_share
    body, headers = (video, {}) if good else bad_upload(video, rng)
    if not good and rng.random() < 0.1:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 500)
        return Answer(0, time.perf_counter() - start, good)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
        try:
            connection.request("POST", "/predict", body, headers)
        except OSError:
            pass  # refused before all of it was sent; the answer may be there nevertheless
        try:
            response = connection.getresponse()
            content = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return Answer(-1, time.perf_counter() - start, good)
    answered = "labels" in content if response.status == 200 else isinstance(content.get("detail"), str)
    return Answer(response.status if answered else -1, time.perf_counter() - start, good)


@contextlib.contextmanager
def service(run: str, readers: int, parallel: int, temporary: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``dnr serve`` until the end of the block; lends the process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dnr_jax", "serve", run, "--port", str(port), "--readers", str(readers)]
    command += ["--max-requests", str(parallel), "--max-megabytes", str(MEGABYTES)]
    process = subprocess.Popen(command, env=os.environ | {"TMPDIR": temporary})
    try:
        while not _answers(port):
            if process.poll() is not None:
                sys.exit(f"the service ended with status {process.returncode}")
            time.sleep(0.5)
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()


def _answers(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False


def memory(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Return the megabytes of a process, and of those that it started."""
    top = psutil.Process(process.pid)
    readers = 0
    for one in top.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            readers += one.memory_info().rss
    return top.memory_info().rss / 1e6, readers / 1e6


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="work directory of a training run")
    parser.add_argument("videos", nargs="+", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--bad", type=float, default=0.25, help="share of bad uploads (default: 0.25)")
    args = parser.parse_args()
    videos = [path.read_bytes() for path in args.videos]
    rngs = [random.Random(number) for number in range(args.requests)]
    samples: list[tuple[float, float]] = []
    done = threading.Event()
    with tempfile.TemporaryDirectory() as temporary:
        with service(args.run, args.readers, args.parallel, temporary) as (process, port):

            def watch() -> None:
                while not done.wait(1):
                    samples.append(memory(process))

            watching = threading.Thread(target=watch)
            watching.start()
            start = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(args.parallel) as pool:
                answers = list(pool.map(lambda rng: send(port, rng.choice(videos), rng, args.bad), rngs))
            elapsed = time.perf_counter() - start
            done.set()
            watching.join()
            print(f"the service answers afterwards: {_answers(port)}")
            process.send_signal(signal.SIGTERM)
            print(f"exit status after SIGTERM: {process.wait(120)}")
        left = [name for name in os.listdir(temporary) if name.startswith("dnr_serve_")]
    report(answers, elapsed, samples, left)


def report(answers: list[Answer], elapsed: float, samples: list[tuple[float, float]], left: list[str]) -> None:
    """Print what came back."""
    for good in (True, False):
        counts = collections.Counter(answer.status for answer in answers if answer.good is good)
        print(f"{'good' if good else 'bad'} uploads by status: {dict(sorted(counts.items()))}")
    seconds = sorted(answer.seconds for answer in answers if answer.good)
    shares = {
        name: seconds[int(share * (len(seconds) - 1))] for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    print(f"{len(answers)} requests in {elapsed:.0f} s: {len(answers) / elapsed:.1f} requests/s")
    print("latency of good ones: " + ", ".join(f"{name} {value:.2f} s" for name, value in shares.items()))
    if len(samples) >= 10:
        for name, numbers in zip(("the service", "its readers"), zip(*samples, strict=True), strict=True):
            parts = [numbers[len(numbers) * i // 8 : len(numbers) * (i + 1) // 8] for i in range(8)]
            means = ", ".join(f"{sum(part) / len(part):.0f}" for part in parts)
            print(f"memory of {name}, mean of each eighth, in MB: {means}")
    print(f"temporary folders left: {len(left)}")


if __name__ == "__main__":
    main()
