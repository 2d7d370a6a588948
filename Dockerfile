# The service as an image, for the CPU or the GPU: docs/deploy.md.
#
#     docker build --target cpu --tag ptycholive:cpu .
#     docker build --target gpu --tag ptycholive:gpu .
#
# A site gives its own mirrors as --build-arg APT_MIRROR=… and --build-arg PIP_INDEX_URL=…, and its own copy of
# the base, best by digest, as --build-arg BASE=…. They are not kept in the image.

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
ARG APT_MIRROR=""
ARG DEBIAN_FRONTEND=noninteractive
# Debian keeps one release of a package: the base image's date is what pins it.
# hadolint ignore=DL3008
RUN if [ -n "$APT_MIRROR" ]; then \
        rm -f /etc/apt/sources.list.d/*; \
        echo "deb $APT_MIRROR bookworm main" > /etc/apt/sources.list; \
    fi \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
RUN useradd --system --uid 10001 --user-group --home-dir /tmp --no-create-home ptycholive \
    && install -d -o ptycholive -g ptycholive /data/results /data/recordings \
    && install -d /data/bundles

FROM python AS build
ARG DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends python3-dev python3-venv gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/ptycholive
WORKDIR /src
COPY LICENSE README.md pyproject.toml requirements.lock ./
COPY model model
COPY service service
COPY training training

FROM build AS build-cpu
ARG PIP_INDEX_URL
RUN /opt/ptycholive/bin/pip install --no-cache-dir --quiet --constraint requirements.lock '.[cpu,fast]' \
    && /opt/ptycholive/bin/pip uninstall --quiet --yes pip setuptools

FROM build AS build-gpu
ARG PIP_INDEX_URL
# Without a way to TensorRT's libraries: --build-arg PACKAGES='.[fast] cuda-bindings'
ARG PACKAGES=".[gpu,fast]"
# hadolint ignore=SC2086
RUN /opt/ptycholive/bin/pip install --no-cache-dir --quiet --constraint requirements.lock \
        $PACKAGES 'onnxruntime-gpu[cuda,cudnn]' \
    && /opt/ptycholive/bin/pip uninstall --quiet --yes pip setuptools

FROM python AS service
ARG VERSION="0.1.0"
ARG REVISION=""
LABEL org.opencontainers.image.title="ptycholive" \
      org.opencontainers.image.description="Real-time ptychography at the beamline edge" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Off loopback the service refuses to start without a token: give PTYCHOLIVE_TOKEN, or a --config file with one.
ENV PATH=/opt/ptycholive/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PTYCHOLIVE_HOST=0.0.0.0 \
    PTYCHOLIVE_PORT=8080 \
    PTYCHOLIVE_RESULTS=/data/results
WORKDIR /data
VOLUME ["/data/results", "/data/recordings"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import http.client, os, sys; asked = http.client.HTTPConnection('127.0.0.1', int(os.environ['PTYCHOLIVE_PORT']), timeout=3); asked.request('GET', '/readyz'); sys.exit(asked.getresponse().status != 200)"]
ENTRYPOINT ["ptycholive"]
CMD ["serve"]

FROM service AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /opt/ptycholive /opt/ptycholive
USER 10001:10001

FROM service AS cpu
COPY --from=build-cpu /opt/ptycholive /opt/ptycholive
USER 10001:10001
