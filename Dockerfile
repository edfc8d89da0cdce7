# For CPU:          docker build -t dpft .
# with CUDA:        docker build -t dpft --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .   (run: --gpus all)
# runs stay there:  docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" dpft sweep quickstart --workers 2
FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# what MuJoCo draws videos with
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libosmesa6 \
    && rm -rf /var/lib/apt/lists/*
COPY . /opt/dpft
RUN cd /opt/dpft \
    && pip install --no-cache-dir -c constraints.txt --no-deps --index-url "$TORCH_INDEX" torch==2.13.0 \
    && pip install --no-cache-dir -c constraints.txt ".[tune,video]"
RUN useradd --create-home dpft && install --directory --owner dpft /work
USER dpft
WORKDIR /work
ENV DPFT_CACHE=/work/.dpft-cache
ENTRYPOINT ["dpft"]
CMD ["--help"]
