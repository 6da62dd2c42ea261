# docker build -t tser_lightning .                                                     on a CPU
# docker build -t tser_lightning --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 .   with CUDA's libraries
# docker run -v $PWD/runs:/experiments/runs tser_lightning loss=vanilla_kd
ARG BASE=python:3.11-slim
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends git make g++ python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml requirements.lock README.md LICENSE Makefile /source/
COPY tser_lightning /source/tser_lightning
COPY conf /source/conf
COPY experiments /source/experiments
RUN python3 -m venv /opt/tser \
    && /opt/tser/bin/pip install --no-cache-dir uv \
    && /opt/tser/bin/uv pip install --python /opt/tser/bin/python --no-cache --constraint /source/requirements.lock /source
ENV PATH=/opt/tser/bin:$PATH
WORKDIR /experiments
ENTRYPOINT ["tser"]
