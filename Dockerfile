# r2convert on the CPU. Build it in a checkout, and run it on the folder you are in:
#
#   docker build --tag r2convert .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/work" --volume r2convert:/cache r2convert list
#
# The default wheels of torch for Linux bring CUDA along. For a much smaller image, add
# --build-arg PIP_EXTRA_INDEX_URL=... with the address of the CPU wheels that pytorch.org names under "Get started".
#
# On a GPU: take an image of PyTorch's own with the release that constraints.txt names (its tags look like
# 2.12.0-cuda12.6-cudnn9-runtime; with another release pip fetches torch again), and run it with --gpus all:
#
#   docker build --tag r2convert:cuda --build-arg BASE=pytorch/pytorch:<tag> .
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
COPY . .
# PyTorch's images have their distribution's Python, into which pip installs only if it is told to.
RUN PIP_BREAK_SYSTEM_PACKAGES=1 pip install --no-cache-dir --constraint constraints.txt '.[report,parquet,opencv]' && rm -rf /source

# The cache is a volume for whichever user the container runs as.
RUN mkdir --mode 1777 /cache /work
ENV R2CONVERT_CACHE=/cache HOME=/tmp
VOLUME /cache
WORKDIR /work
USER 1000
ENTRYPOINT ["r2convert"]
CMD ["--help"]
