# syntax=docker/dockerfile:1
#
# dnr_jax, with the set of packages that its tests are run with. Without arguments a container trains the demo:
#
#   docker build -t dnr-jax .
#   mkdir -p runs   # else Docker makes it, and root alone may write to it
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/runs:/data/runs" dnr-jax
#
# On NVIDIA GPUs (driver 580 or later for cuda, 525 or later for cuda12; the host needs NVIDIA's container toolkit):
#
#   docker build -t dnr-jax:cuda --build-arg ACCELERATOR=cuda .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD/runs:/data/runs" dnr-jax:cuda
#
# Every command is one of dnr: docker run ... dnr-jax predict --workdir runs/demo video.mp4
FROM python:3.11-slim-bookworm

# cpu, cuda (CUDA 13), cuda12 or tpu; the libraries of CUDA come as Python packages, so that the image is the same.
ARG ACCELERATOR=cpu

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY dnr_jax dnr_jax
RUN case "$ACCELERATOR" in \
      cpu) extra= ;; \
      cuda|cuda12|tpu) extra="[$ACCELERATOR]" ;; \
      *) echo "ACCELERATOR is '$ACCELERATOR'; expected cpu, cuda, cuda12 or tpu" >&2; exit 2 ;; \
    esac \
    && pip install -c constraints.txt ".$extra" \
    && dnr configs

# Where runs/, the demo's videos and caches are written, by the user of the container or by any other (docker run --user),
# who has no home of their own.
ENV HOME=/data
RUN useradd --no-create-home --home-dir /data dnr && install -d -o dnr -m 1777 /data /data/runs
USER dnr
WORKDIR /data

ENTRYPOINT ["dnr"]
CMD ["train"]
