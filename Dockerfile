# syntax=docker/dockerfile:1
#
#   docker build -t braze-datadog .
#   docker run -v ./braze-datadog:/etc/braze-datadog:ro \
#              -v braze-datadog:/var/lib/braze-datadog \
#              -p 127.0.0.1:8081:8081 braze-datadog
#   docker run … braze-datadog check                any other subcommand
#
# In the directory lie braze-datadog.toml and the files that it names. Mounted each by itself, they would stay the old ones where others are
# moved over them (docs/operating.md, "Secrets in files").
#
# Push from outside the container needs `push.listen = "0.0.0.0:8080"`, a `push.token_file`, and `-p 8080:8080`. Files with
# secrets have to be readable by user 65532 (`chown 65532 tokens`, mode 400); keys of a bucket may come by `--env-file`.

# `--version` names the commit with `--build-arg BRAZE_DATADOG_COMMIT=$(git rev-parse --short=9 HEAD)`, and its day with
# `--build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)`. `make image` makes the same image without an engine.

FROM --platform=$BUILDPLATFORM rust:1.95-bookworm AS build
WORKDIR /build

COPY .ci/install .ci/notices .ci/static .ci/
COPY Cargo.toml Cargo.lock LICENSE build.rs ./
COPY benches benches
COPY examples examples
COPY crates crates
# What `monitors --shipped` prints.
COPY config/datadog config/datadog
COPY src src

# The engine says which, amd64 or arm64; one builds for the other.
ARG TARGETARCH
ARG BRAZE_DATADOG_COMMIT
ARG SOURCE_DATE_EPOCH

# What was downloaded and built stays with the engine, so that a change of ours builds our crates again and no other.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    .ci/install cross && .ci/static "$TARGETARCH" \
 && cp "target/static/$TARGETARCH/braze-datadog" /braze-datadog \
 && cp "target/static/$TARGETARCH/THIRD-PARTY-NOTICES" /THIRD-PARTY-NOTICES

# The directory of the queue and of the history, to be copied with its owner: the image below has no shell to make it with.
RUN mkdir -p /state

# A static binary, and the certificates of the public authorities: no libc, no shell, no package manager.
FROM scratch

ARG BRAZE_DATADOG_COMMIT

LABEL org.opencontainers.image.title="braze-datadog" \
      org.opencontainers.image.description="Counts Braze message sends and forwards them to Datadog" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$BRAZE_DATADOG_COMMIT"

COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /braze-datadog /usr/local/bin/braze-datadog
COPY --from=build --chown=65532:65532 --chmod=0700 /state /var/lib/braze-datadog
COPY --from=build /THIRD-PARTY-NOTICES /usr/share/doc/braze-datadog/THIRD-PARTY-NOTICES
COPY LICENSE /usr/share/doc/braze-datadog/LICENSE

# By number, so that Kubernetes can see that it is not root.
USER 65532:65532

# Health and metrics are of use from outside the container only.
ENV BRAZE_DATADOG__ADMIN__LISTEN=0.0.0.0:8081

# Without a volume the queue would end with the container.
VOLUME ["/var/lib/braze-datadog"]

# Push, admin.
EXPOSE 8080 8081

STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/braze-datadog", "health"]

# Docker gives a container 10 seconds to stop: `docker stop -t 45`, or stop_grace_period, or
# terminationGracePeriodSeconds leave room for shutdown_timeout (20s).
ENTRYPOINT ["/usr/local/bin/braze-datadog"]
CMD ["run"]
