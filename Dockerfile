# calsync in a container. At run time it needs CALSYNC_TOKENS (or CALSYNC_TOKENS_FILE) and CALSYNC_SERVER_HOSTS, and a
# volume at /data for the calendar's file; docs/running.md shows how.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/calsync
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY calsync ./calsync
RUN /opt/calsync/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[notify,postgres]'

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin calsync \
    && install -d -o calsync -g calsync /data
COPY --from=build /opt/calsync /opt/calsync
COPY windows.toml /etc/calsync/windows.toml
ENV PATH=/opt/calsync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CALSYNC_CALENDAR_URL=sqlite:////data/deployments.db \
    CALSYNC_CALENDAR_CACHE=/data/deployments.cache
USER calsync
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["calsync"]
CMD ["serve", "--host", "0.0.0.0", "--config", "/etc/calsync/windows.toml"]
