# syntax=docker/dockerfile:1
# The image of peerd: any platform that python and the pinned wheels have (amd64, arm64).
FROM python:3.11-slim AS build
COPY . /src
RUN /src/image/install.sh /src /opt/peerd

FROM python:3.11-slim
COPY --from=build /opt/peerd /opt/peerd
# Nobody in particular, and nothing to write to but mounted volumes.
USER 65532:65532
ENV PATH=/opt/peerd/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["peerd"]
CMD ["--help"]
