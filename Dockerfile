# The API (the last stage, so the default) and the page: two images, for the page needs no torch.
#
#   make image                                                     both, with docker, podman or buildah
#   docker build --tag segbench .                                  the API for CPUs
#   docker build --tag segbench --build-arg TORCH=cu130 .          the API for NVIDIA's GPUs
#   docker build --tag segbench-page --target page .
#
# docs/deploy.md tells how they are run. Models are mounted, never copied in.

# Any image with Python 3.11 or newer and its venv module.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS builder
RUN python3 -m venv /opt/segbench
ENV PATH=/opt/segbench/bin:${PATH} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build


FROM builder AS api-builder
# cpu, or one of PyTorch's builds for CUDA. TORCH_INDEX: a mirror, for networks that reach no other.
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/${TORCH}
COPY deploy/torch.txt deploy/
RUN pip install --index-url "${TORCH_INDEX}" --requirement deploy/torch.txt
COPY deploy/api.txt deploy/
RUN pip install --requirement deploy/api.txt
COPY pyproject.toml README.md LICENSE ./
COPY studies studies
COPY segbench segbench
RUN pip install --no-deps .


FROM builder AS page-builder
COPY deploy/page.txt deploy/
RUN pip install --requirement deploy/page.txt
COPY pyproject.toml README.md LICENSE ./
COPY studies studies
COPY segbench segbench
RUN pip install --no-deps .


FROM ${BASE} AS runtime
# A number, so that an orchestrator can see that it is not root's; a name and a home, which it has none of by itself.
USER 10001:10001
ENV PATH=/opt/segbench/bin:${PATH} HOME=/tmp USER=segbench PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
STOPSIGNAL SIGTERM


FROM runtime AS page
COPY --from=page-builder /opt/segbench /opt/segbench
ENV SEGBENCH_API=http://api:8000
EXPOSE 8001
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8001/_stcore/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "segbench.serve.page", "--host", "0.0.0.0"]


FROM runtime AS api
COPY --from=api-builder /opt/segbench /opt/segbench
COPY deploy/entrypoint.py /opt/segbench/entrypoint.py
ENV SEGBENCH_STORAGE=/storage HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["python", "/opt/segbench/entrypoint.py", "--host", "0.0.0.0", "--no-page"]
CMD ["--token"]
