# r2convert on the CPU. Build it in a checkout, and run it on the folder you are in:
#
#   docker build --tag r2convert .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/work" --volume r2convert:/cache r2convert list
#
# The default wheels of torch for Linux bring CUDA along. For a much smaller image, add
# --build-arg PIP_EXTRA_INDEX_URL=... with the address of the CPU wheels that pytorch.org names under "Get started".
#
# On a GPU: take an image of PyTorch's own that has the release constraints.txt names, and run it with --gpus all:
#
#   docker build --tag r2convert:cuda --build-arg BASE=pytorch/pytorch:<release>-cuda<version>-cudnn<version>-runtime .
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt '.[report,parquet,opencv]' && rm -rf /source

# The cache is a volume for whichever user the container runs as.
RUN mkdir --mode 1777 /cache /work
ENV R2CONVERT_CACHE=/cache HOME=/tmp
VOLUME /cache
WORKDIR /work
USER 1000
ENTRYPOINT ["r2convert"]
CMD ["--help"]
