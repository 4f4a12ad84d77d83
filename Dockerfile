# The demo of sarigan in a container; what it makes is in /out.
#
#   docker build --tag=sarigan . && mkdir -p out
#   docker run --rm --user="$(id -u)" --volume="$PWD/out:/out" sarigan
#   docker run --rm --user="$(id -u)" --volume="$PWD/out:/out" sarigan generate --network=drawn32 --seeds=0-35 \
#       --outdir=/out/images
#
# With a GPU, on a base that has CUDA's libraries, of the same Ubuntu:
#
#   docker build --tag=sarigan-gpu --build-arg=BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 .
#   docker run --rm --gpus=all --user="$(id -u)" --volume="$PWD/out:/out" sarigan-gpu

ARG BASE=ubuntu:24.04
FROM ${BASE}

# Triton, which CUDA devices use, compiles with gcc.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc git libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# An index with PyTorch for CPUs alone, whose wheels are a tenth as large; empty = the usual index.
ARG TORCH_INDEX=""
WORKDIR /opt/sarigan
COPY requirements.txt ./
RUN python3 -m venv .venv \
    && if [ -n "$TORCH_INDEX" ]; then \
        .venv/bin/pip install --no-cache-dir --index-url="$TORCH_INDEX" "$(grep '^torch==' requirements.txt)"; fi \
    && .venv/bin/pip install --no-cache-dir --requirement=requirements.txt

COPY . ./
RUN PIP_NO_CACHE_DIR=1 ./install.sh --upstream=pypi

# Nothing needs root from here on. Downloads and compiled kernels go where everybody may write; PyTorch asks for the name
# of a user, which those of --user don't have.
RUN mkdir --mode=777 /out /cache
ENV HOME=/cache XDG_CACHE_HOME=/cache LOGNAME=sarigan
USER nobody
VOLUME /out
WORKDIR /out
ENTRYPOINT ["/opt/sarigan/.venv/bin/sarigan"]
CMD ["demo", "--outdir=/out"]
