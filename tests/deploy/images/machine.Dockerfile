# A machine that systemd runs, with what docs/deploy.md asks for there: tests/deploy/test_systemd.py.
FROM debian:bookworm-slim
ARG DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends \
        systemd systemd-sysv dbus python3-dev python3-venv gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
