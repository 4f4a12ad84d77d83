# SariGAN in a container: runs the demo, and whatever else you type.
#
#   docker build -t sarigan .
#   docker run --rm -v "$PWD/out:/sarigan/out" sarigan                      five minutes of training, pictures in out/demo
#   docker run --rm -v "$PWD:/work" -w /work sarigan sarigan train ...      any other command, on your files
#
# For NVIDIA GPUs, a base with CUDA; "devel" has the compiler for upstream's own CUDA operations, "runtime" is enough
# for those in Triton:
#
#   docker build -t sarigan --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 .
#   docker run --rm --gpus=all --shm-size=8g ... sarigan

ARG BASE=ubuntu:24.04
FROM ${BASE}

ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# PyTorch's own index has a build for CPUs, a tenth of the size; with CUDA, leave it empty.
ARG TORCH_INDEX=
ENV PIP_EXTRA_INDEX_URL=${TORCH_INDEX} PIP_NO_CACHE_DIR=1

WORKDIR /sarigan
COPY . .
RUN ./install.sh --upstream=pypi
ENV PATH=/sarigan/.venv/bin:${PATH}

CMD ["sarigan", "demo", "--outdir=out/demo"]
