"""The scripts of scripts/cluster, with stand-ins for a cluster's programs that start processes on this machine."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from dnr_jax import train_command
from dnr_jax.config import read_command_line
from dnr_jax.runs.checkpoint import complete_steps
from tests.paths import REPOSITORY
from tests.training import tiny

SCRIPTS = REPOSITORY / "scripts" / "cluster"
JOBSETS = sorted(SCRIPTS.glob("*.yaml"))


def program(folder: pathlib.Path, name: str, text: str) -> None:
    """Write a program that is found before any other of its name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash_and_can_be_run(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.name)
def test_jobsets_name_flags_that_exist_and_as_many_processes_as_pods(path):
    jobset = yaml.safe_load(path.read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    assert pods["parallelism"] == pods["completions"] and pods["backoffLimit"] == 0
    assert container["command"] == ["dnr", "train", "--distributed"]
    _, _, rest = read_command_line(["train", *container["args"]], "configs/demo.py", REPOSITORY)
    flags = dict(word.lstrip("-").split("=") for word in rest[1:])
    assert flags.keys() <= train_command._own_flags().keys()
    if "num_processes" in flags:
        assert int(flags["num_processes"]) == pods["parallelism"] * job["replicas"]
        name = jobset["metadata"]["name"]
        assert flags["coordinator"].startswith(f"{name}-{job['name']}-0-0.{name}:")


GCLOUD = r"""
printf '%s\n' "$*" >> "$HOME/asked"
for word in "$@"; do
  case $word in --command=*) bash -c "${word#--command=}" ;; esac
done
"""
DNR = r"""
printf '%s\n' "$@" > "$HOME/words"
trap 'echo stopped; exit 143' TERM
touch "$HOME/begun"
while true; do sleep 0.05; done
"""


def test_the_script_for_tpu_slices_starts_and_stops_the_command_on_all_hosts(tmp_path):
    program(tmp_path / "bin", "gcloud", GCLOUD)
    (tmp_path / "dnr").mkdir()
    program(tmp_path / "dnr" / "bin", "dnr", DNR)
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "TPU_NAME": "dnr",
        "ZONE": "here",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [SCRIPTS / "tpu_vm.sh", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    words = ["--config=k400_tsn_dnr", "--config.data.source.root=gs://bucket/a folder"]
    assert run("train", *words).returncode == 0
    wait_for(lambda: (tmp_path / "begun").exists(), 30)
    assert (tmp_path / "words").read_text().splitlines() == ["train", "--distributed", *words]
    assert run("stop").returncode == 0
    assert run("log").stdout == "stopped\n"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert all("ssh dnr --zone=here --worker=all" in line for line in asked if line.startswith("compute"))
    assert run("sing").returncode == 2


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


SRUN = r"""
# Starts two tasks on this machine, hands signals on to them, and returns the highest status, as srun does.
export SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1 tasks=()
for number in 0 1; do
  SLURM_PROCID=$number SLURM_LOCALID=$number "$@" &
  tasks+=($!)
done
trap 'kill -TERM "${tasks[@]}"' TERM
echo $$ > "$JOB/srun.pid"
highest=0
for task in "${tasks[@]}"; do
  wait "$task"; status=$?
  while kill -0 "$task" 2> /dev/null; do wait "$task"; status=$?; done
  ((status > highest)) && highest=$status
done
exit "$highest"
"""


@pytest.mark.slow
def test_a_slurm_job_that_is_signalled_is_queued_again_and_goes_on(tmp_path):
    """JAX finds the processes by Slurm's variables; SIGTERM, as --signal sends it, loses no step."""
    videos = tiny.write_videos(tmp_path / "videos")
    workdir, programs = tmp_path / "run", tmp_path / "bin"
    program(programs, "srun", SRUN)
    program(programs, "scontrol", 'echo "$*" >> "$JOB/scontrol.log"\n')
    train = f"{sys.executable} -m tests.training.run_tiny {videos} {workdir} 0"
    program(programs, "dnr", f'exec {train} "$JOB_STEPS" detect\n')
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "JOB": str(tmp_path),
        "SLURM_JOB_ID": str(random.randrange(2**20)),
        "SLURM_GPUS_ON_NODE": "8",
        "JAX_PLATFORMS": "cpu",
    }

    def job(steps: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SCRIPTS / "slurm.sh", "--config=demo"],
            cwd=REPOSITORY,
            env=environment | {"JOB_STEPS": str(steps)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first = job(100_000)
    wait_for(lambda: complete_steps(workdir) or first.poll() is not None, 200)
    os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGTERM)
    output, _ = first.communicate(timeout=200)
    assert first.returncode == 143, output
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {environment['SLURM_JOB_ID']}\n"
    stopped = int(re.search(r"stopped after step (\d+) of 100000", output)[1])
    assert complete_steps(workdir)[-1] == stopped

    second = job(stopped + 5)
    output, _ = second.communicate(timeout=200)
    assert second.returncode == 0, output
    assert f"continuing at step {stopped}" in output and output.endswith("trained\n")
    assert json.loads((workdir / "evaluation.json").read_text())["step"] == stopped + 5
    shutil.rmtree(workdir)
